/*
 * A Convert client (RFC 8803) over the kernel's sockets:
 *
 *   convert-peer ADDRESS PORT tcp|mptcp syn|connect|stream HEX
 *
 * HEX are the first bytes of the stream. syn: in the SYN by sendto(MSG_FASTOPEN) (appendix A.1), connect: in the SYN by
 * TCP_FASTOPEN_CONNECT and a write, stream: behind the handshake. Then it ends its side and reads to the end. One line of JSON:
 *   {"error": errno name or "", "in_syn": the SYN's data was acknowledged by the SYN/ACK, "mptcp": no fallback,
 *    "connect_ms": until the connection was there, "heard": hex}
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IPPROTO_MPTCP_ 262
#define SOL_MPTCP_ 284
#define MPTCP_INFO_ 1
#define MPTCP_TCPINFO_ 2
#define LIMIT_MS 15000

struct subflow_data {
  uint32_t size_subflow_data, num_subflows, size_kernel, size_user;
};

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* Of the first subflow, where it is Multipath TCP. */
static int info_of(int s, int is_mptcp, struct tcp_info *info) {
  socklen_t n = sizeof *info;
  memset(info, 0, sizeof *info);
  if (!is_mptcp) return getsockopt(s, IPPROTO_TCP, TCP_INFO, info, &n);
  char buf[sizeof(struct subflow_data) + sizeof *info];
  struct subflow_data *d = (struct subflow_data *)buf;
  memset(buf, 0, sizeof buf);
  d->size_subflow_data = sizeof *d;
  d->size_user = sizeof *info;
  n = sizeof buf;
  if (getsockopt(s, SOL_MPTCP_, MPTCP_TCPINFO_, buf, &n) < 0) {
    /* It has fallen back. */
    n = sizeof *info;
    return getsockopt(s, IPPROTO_TCP, TCP_INFO, info, &n);
  }
  memcpy(info, buf + sizeof *d, sizeof *info);
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 6) return 2;
  int is_mptcp = strcmp(argv[3], "mptcp") == 0;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
  unsigned char bytes[2048], in[65536];
  size_t length = 0, heard = 0;
  int one = 1, error = 0, in_syn = 0, was_mptcp = 0;
  double began, connected = -1;
  inet_pton(AF_INET, argv[1], &to.sin_addr);
  for (const char *p = argv[5]; p[0] && p[1] && length < sizeof bytes; p += 2) sscanf(p, "%2hhx", &bytes[length++]);

  int s = socket(AF_INET, SOCK_STREAM, is_mptcp ? IPPROTO_MPTCP_ : IPPROTO_TCP);
  if (s < 0) return 3;
  began = now_ms();
  if (strcmp(argv[4], "syn") == 0) {
    if (sendto(s, bytes, length, MSG_FASTOPEN, (struct sockaddr *)&to, sizeof to) < 0) error = errno;
  } else {
    if (strcmp(argv[4], "connect") == 0) setsockopt(s, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one);
    if (connect(s, (struct sockaddr *)&to, sizeof to) < 0) error = errno;
    else if (send(s, bytes, length, MSG_NOSIGNAL) < 0) error = errno;
  }
  struct tcp_info info;
  struct pollfd wait = {.fd = s, .events = POLLIN};
  if (error == 0 && poll(&wait, 1, LIMIT_MS) > 0) connected = now_ms() - began;
  if (error == 0 && info_of(s, is_mptcp, &info) == 0) in_syn = (info.tcpi_options & 32 /* TCPI_OPT_SYN_DATA */) != 0;
  if (is_mptcp) {
    unsigned char mi[512];
    socklen_t n = sizeof mi;
    was_mptcp = getsockopt(s, SOL_MPTCP_, MPTCP_INFO_, mi, &n) == 0;
  }
  shutdown(s, SHUT_WR);
  while (error == 0 && heard < sizeof in && poll(&wait, 1, LIMIT_MS) > 0) {
    ssize_t n = recv(s, in + heard, sizeof in - heard, 0);
    if (n == 0) break;
    if (n < 0) error = errno;
    else heard += (size_t)n;
  }
  printf("{\"error\":\"%s\",\"in_syn\":%s,\"mptcp\":%s,\"connect_ms\":%.1f,\"heard\":\"", error ? strerrorname_np(error) : "",
         in_syn ? "true" : "false", was_mptcp ? "true" : "false", connected);
  for (size_t i = 0; i < heard; i++) printf("%02x", in[i]);
  printf("\"}\n");
  return 0;
}
