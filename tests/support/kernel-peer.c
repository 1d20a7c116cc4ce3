/*
 * A sockets application over the kernel's Multipath TCP, driven line by line (tests/support/kernel-party.ts):
 *
 *   kernel-peer listen PORT [seed=N] [rcvbuf=N] [tcp]
 *   kernel-peer connect LOCAL REMOTE PORT [seed=N] [rcvbuf=N] [fastopen=N] [tcp]
 *   kernel-peer observe
 *
 * Commands on stdin:  send N | end | pause | resume | abort | close | stat | counters | quit
 * Answers on stdout, one JSON object a line: {"ready":PORT} once it listens, {"stat":{…}}, {"counters":{…}}.
 * What it sends is the stream of its seed (2, if not said), what it expects that of the other, 1 or 2 (see pattern.ts);
 * `mismatch` is the offset of the first byte that is not, or -1. LOCAL "-" leaves the address to the kernel. An IPv4 connection uses an IPv6 socket
 * with mapped addresses, because the kernel joins over the other family only then.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IPPROTO_MPTCP_ 262
#define SOL_MPTCP_ 284
#define MPTCP_INFO_ 1

static int listener = -1, fd = -1;
static int is_mptcp = 1, is_accepted, is_paused, is_eof, is_ended, end_wanted, is_connecting;
static uint32_t seed = 2;
static long long to_send, sent, received, mismatch = -1;
static char failure[64];

static uint8_t pattern(uint32_t of, long long i) {
  uint32_t x = (uint32_t)(i >> 2) * 0x9e3779b1u + of;
  x = (x ^ (x >> 16)) * 0x85ebca6bu;
  x = (x ^ (x >> 13)) * 0xc2b2ae35u;
  x ^= x >> 16;
  return (uint8_t)(x >> (8 * (i & 3)));
}

static void die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static struct sockaddr_in6 address(const char *text, int port) {
  struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
  char mapped[64];
  if (strcmp(text, "-") == 0) return a;
  if (strchr(text, ':') == NULL) {
    snprintf(mapped, sizeof mapped, "::ffff:%s", text);
    text = mapped;
  }
  if (inet_pton(AF_INET6, text, &a.sin6_addr) != 1) die(text);
  return a;
}

static int open_socket(int rcvbuf) {
  int s = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, is_mptcp ? IPPROTO_MPTCP_ : IPPROTO_TCP);
  int on = 1, off = 0;
  if (s < 0) die("socket");
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (rcvbuf > 0 && setsockopt(s, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf) < 0) die("SO_RCVBUF");
  return s;
}

static void fail(void) {
  if (failure[0] == 0) snprintf(failure, sizeof failure, "%s", strerror(errno));
  close(fd);
  fd = -1;
}

static void pump_out(void) {
  uint8_t block[65536];
  while (fd >= 0 && sent < to_send) {
    long long n = to_send - sent;
    if (n > (long long)sizeof block) n = sizeof block;
    for (long long i = 0; i < n; i++) block[i] = pattern(seed, sent + i);
    ssize_t w = send(fd, block, (size_t)n, MSG_NOSIGNAL);
    if (w < 0) {
      if (errno != EAGAIN && errno != EINTR) fail();
      return;
    }
    sent += w;
  }
  if (fd >= 0 && end_wanted && !is_ended) {
    shutdown(fd, SHUT_WR);
    is_ended = 1;
  }
}

static void pump_in(void) {
  uint8_t block[65536];
  ssize_t n = recv(fd, block, sizeof block, 0);
  if (n < 0) {
    if (errno != EAGAIN && errno != EINTR) fail();
    return;
  }
  if (n == 0) {
    is_eof = 1;
    return;
  }
  for (ssize_t i = 0; i < n && mismatch < 0; i++) {
    if (block[i] != pattern(3 - seed, received + i)) mismatch = received + i;
  }
  received += n;
}

/* struct mptcp_info: mptcpi_subflows_total is byte 80. */
static void print_stat(void) {
  uint8_t info[256] = {0};
  socklen_t len = sizeof info;
  int subflows = -1;
  if (fd >= 0 && is_mptcp && getsockopt(fd, SOL_MPTCP_, MPTCP_INFO_, info, &len) == 0 && len > 80) {
    subflows = info[80];
  }
  printf("{\"stat\":{\"open\":%s,\"subflows\":%d,\"sent\":%lld,\"received\":%lld,\"mismatch\":%lld,\"eof\":%s,"
         "\"error\":\"%s\"}}\n",
         fd >= 0 && !is_connecting ? "true" : "false", subflows, sent, received, mismatch, is_eof ? "true" : "false",
         failure);
}

/* /proc/net/netstat: a line of names and a line of numbers for each group. */
static void print_counters(void) {
  static char names[16384], values[16384];
  FILE *f = fopen("/proc/self/net/netstat", "r");
  const char *comma = "";
  if (f == NULL) die("netstat");
  printf("{\"counters\":{");
  while (fgets(names, sizeof names, f) != NULL && fgets(values, sizeof values, f) != NULL) {
    char *n, *v, *name = strtok_r(names, " \n", &n), *value = strtok_r(values, " \n", &v);
    if (name == NULL || strcmp(name, "MPTcpExt:") != 0) continue;
    while ((name = strtok_r(NULL, " \n", &n)) != NULL && (value = strtok_r(NULL, " \n", &v)) != NULL) {
      printf("%s\"%s\":%s", comma, name, value);
      comma = ",";
    }
  }
  printf("}}\n");
  fclose(f);
}

static void close_socket(int with_reset) {
  struct linger linger = {.l_onoff = 1, .l_linger = 0};
  if (fd < 0) return;
  if (with_reset) setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  close(fd);
  fd = -1;
}

static void command(char *line) {
  if (strncmp(line, "send ", 5) == 0) {
    to_send += atoll(line + 5);
  } else if (strcmp(line, "end") == 0) {
    end_wanted = 1;
  } else if (strcmp(line, "pause") == 0) {
    is_paused = 1;
  } else if (strcmp(line, "resume") == 0) {
    is_paused = 0;
  } else if (strcmp(line, "abort") == 0) {
    close_socket(1);
  } else if (strcmp(line, "close") == 0) {
    close_socket(0);
  } else if (strcmp(line, "stat") == 0) {
    print_stat();
  } else if (strcmp(line, "counters") == 0) {
    print_counters();
  } else if (strcmp(line, "quit") == 0) {
    exit(0);
  } else if (line[0] != 0) {
    fprintf(stderr, "no such command: %s\n", line);
    exit(2);
  }
}

static void read_commands(void) {
  static char pending[4096];
  static size_t length;
  ssize_t n = read(0, pending + length, sizeof pending - 1 - length);
  if (n <= 0) exit(0);
  length += (size_t)n;
  pending[length] = 0;
  for (;;) {
    char *end = strchr(pending, '\n');
    if (end == NULL) break;
    *end = 0;
    command(pending);
    length -= (size_t)(end + 1 - pending);
    memmove(pending, end + 1, length + 1);
  }
}

static void start(int argc, char **argv) {
  int rcvbuf = 0, fastopen = 0, positional = 0;
  char *args[3] = {0};
  for (int i = 2; i < argc; i++) {
    if (strncmp(argv[i], "rcvbuf=", 7) == 0) rcvbuf = atoi(argv[i] + 7);
    else if (strncmp(argv[i], "seed=", 5) == 0) seed = (uint32_t)atoi(argv[i] + 5);
    else if (strncmp(argv[i], "fastopen=", 9) == 0) fastopen = atoi(argv[i] + 9);
    else if (strcmp(argv[i], "tcp") == 0) is_mptcp = 0;
    else if (positional < 3) args[positional++] = argv[i];
  }
  if (strcmp(argv[1], "listen") == 0) {
    struct sockaddr_in6 any = address("-", atoi(args[0]));
    listener = open_socket(rcvbuf);
    if (bind(listener, (struct sockaddr *)&any, sizeof any) < 0 || listen(listener, 8) < 0) die("listen");
    printf("{\"ready\":%s}\n", args[0]);
    return;
  }
  struct sockaddr_in6 local = address(args[0], 0), remote = address(args[1], atoi(args[2]));
  fd = open_socket(rcvbuf);
  if (bind(fd, (struct sockaddr *)&local, sizeof local) < 0) die("bind");
  is_connecting = 1;
  if (fastopen > 0) {
    uint8_t block[1400];
    for (int i = 0; i < fastopen; i++) block[i] = pattern(seed, i);
    ssize_t n = sendto(fd, block, (size_t)fastopen, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&remote, sizeof remote);
    if (n > 0) sent = n;
    else if (errno != EINPROGRESS) die("fast open");
    to_send = fastopen;
  } else if (connect(fd, (struct sockaddr *)&remote, sizeof remote) < 0 && errno != EINPROGRESS) {
    die("connect");
  }
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  signal(SIGPIPE, SIG_IGN);
  if (argc < 2) return 2;
  if (strcmp(argv[1], "observe") != 0) start(argc, argv);
  for (;;) {
    int wants_out = is_connecting || sent < to_send || (end_wanted && !is_ended);
    int wants_in = !is_paused && !is_eof && !is_connecting;
    struct pollfd p[3] = {
        {.fd = 0, .events = POLLIN},
        {.fd = fd < 0 || (!wants_in && !wants_out) ? -1 : fd,
         .events = (short)((wants_in ? POLLIN : 0) | (wants_out ? POLLOUT : 0))},
        {.fd = is_accepted ? -1 : listener, .events = POLLIN},
    };
    if (poll(p, 3, -1) < 0) continue;
    if (p[0].revents != 0) read_commands();
    if (p[2].revents != 0) {
      fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
      is_accepted = fd >= 0;
    }
    if (fd >= 0 && is_connecting && (p[1].revents & (POLLOUT | POLLERR | POLLHUP)) != 0) {
      int error = 0;
      socklen_t len = sizeof error;
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
      is_connecting = 0;
      if (error != 0) {
        errno = error;
        fail();
      }
    }
    if (fd >= 0 && !is_connecting) pump_out();
    if (fd >= 0 && (p[1].revents & (POLLIN | POLLERR | POLLHUP)) != 0 && !is_paused && !is_eof && !is_connecting) pump_in();
    if (fd >= 0 && is_eof && is_ended) {
      /* Both directions are over: an orderly close. */
      close(fd);
      fd = -1;
    }
  }
}
