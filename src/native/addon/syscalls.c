/* One function per system call; structures are passed as bytes that TypeScript has laid out. */
#define _GNU_SOURCE
#include "addon.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* open(path, flags): descriptor, always close-on-exec. */
static napi_value sys_open(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  char path[4096];
  int32_t flags;
  if (!take_args(env, info, 2, argv) || !take_string(env, argv[0], path, sizeof path) ||
      !take_i32(env, argv[1], &flags))
    return NULL;
  return make_rc(env, open(path, flags | O_CLOEXEC));
}

static napi_value sys_close(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  int32_t fd;
  if (!take_args(env, info, 1, argv) || !take_i32(env, argv[0], &fd)) return NULL;
  return make_rc(env, close(fd));
}

/* read(fd, bytes), write(fd, bytes) */
static napi_value sys_read(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int32_t fd;
  struct bytes buf;
  if (!take_args(env, info, 2, argv) || !take_i32(env, argv[0], &fd) || !take_bytes(env, argv[1], &buf)) return NULL;
  return make_rc(env, read(fd, buf.data, buf.length));
}

static napi_value sys_write(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int32_t fd;
  struct bytes buf;
  if (!take_args(env, info, 2, argv) || !take_i32(env, argv[0], &fd) || !take_bytes(env, argv[1], &buf)) return NULL;
  return make_rc(env, write(fd, buf.data, buf.length));
}

/* ioctl(fd, request, bytes | number): bytes are passed by pointer (in and out), a number by value. */
static napi_value sys_ioctl(napi_env env, napi_callback_info info) {
  napi_value argv[3];
  int32_t fd;
  double request;
  if (!take_args(env, info, 3, argv) || !take_i32(env, argv[0], &fd) || !take_f64(env, argv[1], &request)) return NULL;
  napi_valuetype type;
  if (napi_typeof(env, argv[2], &type) == napi_ok && type == napi_number) {
    double value;
    if (!take_f64(env, argv[2], &value)) return NULL;
    return make_rc(env, ioctl(fd, (unsigned long)request, (unsigned long)value));
  }
  struct bytes buf;
  if (!take_bytes(env, argv[2], &buf)) return NULL;
  return make_rc(env, ioctl(fd, (unsigned long)request, buf.data));
}

/* socket(domain, type, protocol): non-blocking and close-on-exec. */
static napi_value sys_socket(napi_env env, napi_callback_info info) {
  napi_value argv[3];
  int32_t domain, type, protocol;
  if (!take_args(env, info, 3, argv) || !take_i32(env, argv[0], &domain) || !take_i32(env, argv[1], &type) ||
      !take_i32(env, argv[2], &protocol))
    return NULL;
  return make_rc(env, socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
}

/* bind(fd, sockaddr) */
static napi_value sys_bind(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int32_t fd;
  struct bytes name;
  if (!take_args(env, info, 2, argv) || !take_i32(env, argv[0], &fd) || !take_bytes(env, argv[1], &name)) return NULL;
  return make_rc(env, bind(fd, (struct sockaddr *)name.data, (socklen_t)name.length));
}

/* connect(fd, sockaddr) */
static napi_value sys_connect(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int32_t fd;
  struct bytes name;
  if (!take_args(env, info, 2, argv) || !take_i32(env, argv[0], &fd) || !take_bytes(env, argv[1], &name)) return NULL;
  return make_rc(env, connect(fd, (struct sockaddr *)name.data, (socklen_t)name.length));
}

static napi_value sys_listen(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int32_t fd, backlog;
  if (!take_args(env, info, 2, argv) || !take_i32(env, argv[0], &fd) || !take_i32(env, argv[1], &backlog)) return NULL;
  return make_rc(env, listen(fd, backlog));
}

/* getsockname(fd, room): fills `room`, returns the length. */
static napi_value sys_getsockname(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int32_t fd;
  struct bytes room;
  if (!take_args(env, info, 2, argv) || !take_i32(env, argv[0], &fd) || !take_bytes(env, argv[1], &room)) return NULL;
  socklen_t length = (socklen_t)room.length;
  int rc = getsockname(fd, (struct sockaddr *)room.data, &length);
  return make_rc(env, rc < 0 ? rc : (long)length);
}

/* setsockopt(fd, level, name, bytes) */
static napi_value sys_setsockopt(napi_env env, napi_callback_info info) {
  napi_value argv[4];
  int32_t fd, level, name;
  struct bytes value;
  if (!take_args(env, info, 4, argv) || !take_i32(env, argv[0], &fd) || !take_i32(env, argv[1], &level) ||
      !take_i32(env, argv[2], &name) || !take_bytes(env, argv[3], &value))
    return NULL;
  return make_rc(env, setsockopt(fd, level, name, value.data, (socklen_t)value.length));
}

/* getsockopt(fd, level, name, room): fills `room`, returns the length. */
static napi_value sys_getsockopt(napi_env env, napi_callback_info info) {
  napi_value argv[4];
  int32_t fd, level, name;
  struct bytes room;
  if (!take_args(env, info, 4, argv) || !take_i32(env, argv[0], &fd) || !take_i32(env, argv[1], &level) ||
      !take_i32(env, argv[2], &name) || !take_bytes(env, argv[3], &room))
    return NULL;
  socklen_t length = (socklen_t)room.length;
  int rc = getsockopt(fd, level, name, room.data, &length);
  return make_rc(env, rc < 0 ? rc : (long)length);
}

/* attachFilter(fd, program): SO_ATTACH_FILTER; 8 bytes per instruction. Its structure holds a pointer, hence C. */
static napi_value sys_attach_filter(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int32_t fd;
  struct bytes program;
  if (!take_args(env, info, 2, argv) || !take_i32(env, argv[0], &fd) || !take_bytes(env, argv[1], &program))
    return NULL;
  if (program.length % sizeof(struct sock_filter) != 0) return out_of_range(env, "filter length");
  struct sock_fprog prog = {
      .len = (unsigned short)(program.length / sizeof(struct sock_filter)),
      .filter = (struct sock_filter *)program.data,
  };
  return make_rc(env, setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog));
}

/* sendto(fd, bytes, flags, sockaddr | null) */
static napi_value sys_sendto(napi_env env, napi_callback_info info) {
  napi_value argv[4];
  int32_t fd, flags;
  struct bytes buf, name = {NULL, 0};
  if (!take_args(env, info, 4, argv) || !take_i32(env, argv[0], &fd) || !take_bytes(env, argv[1], &buf) ||
      !take_i32(env, argv[2], &flags))
    return NULL;
  if (!is_nullish(env, argv[3]) && !take_bytes(env, argv[3], &name)) return NULL;
  return make_rc(env, sendto(fd, buf.data, buf.length, flags, (struct sockaddr *)name.data, (socklen_t)name.length));
}

/* recv(fd, room, flags) */
static napi_value sys_recv(napi_env env, napi_callback_info info) {
  napi_value argv[3];
  int32_t fd, flags;
  struct bytes room;
  if (!take_args(env, info, 3, argv) || !take_i32(env, argv[0], &fd) || !take_bytes(env, argv[1], &room) ||
      !take_i32(env, argv[2], &flags))
    return NULL;
  return make_rc(env, recv(fd, room.data, room.length, flags));
}

static napi_value sys_if_nametoindex(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  char name[IF_NAMESIZE];
  if (!take_args(env, info, 1, argv) || !take_string(env, argv[0], name, sizeof name)) return NULL;
  unsigned index = if_nametoindex(name);
  return make_rc(env, index == 0 ? -1 : (long)index);
}

/* setns(fd, nstype), unshare(flags): for the calling thread only. */
static napi_value sys_setns(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int32_t fd, type;
  if (!take_args(env, info, 2, argv) || !take_i32(env, argv[0], &fd) || !take_i32(env, argv[1], &type)) return NULL;
  return make_rc(env, setns(fd, type));
}

static napi_value sys_unshare(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  int32_t flags;
  if (!take_args(env, info, 1, argv) || !take_i32(env, argv[0], &flags)) return NULL;
  return make_rc(env, unshare(flags));
}

/* prctl(option, value): for options with one integer argument, such as PR_SET_PDEATHSIG. */
static napi_value sys_prctl(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int32_t option, value;
  if (!take_args(env, info, 2, argv) || !take_i32(env, argv[0], &option) || !take_i32(env, argv[1], &value))
    return NULL;
  return make_rc(env, prctl(option, (unsigned long)value, 0, 0, 0));
}

/* monotonicUs(): CLOCK_MONOTONIC in microseconds. */
static napi_value sys_monotonic_us(napi_env env, napi_callback_info info) {
  (void)info;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return make_f64(env, (double)now.tv_sec * 1e6 + (double)(now.tv_nsec / 1000));
}

static napi_value sys_timerfd_create(napi_env env, napi_callback_info info) {
  (void)info;
  return make_rc(env, timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
}

/* timerfdSet(fd, us): absolute deadline on the clock of monotonicUs; 0 disarms. Either clears a pending expiry. */
static napi_value sys_timerfd_set(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int32_t fd;
  double us;
  if (!take_args(env, info, 2, argv) || !take_i32(env, argv[0], &fd) || !take_f64(env, argv[1], &us)) return NULL;
  if (!(us >= 0 && us < 9e15)) return out_of_range(env, "deadline");
  uint64_t whole = (uint64_t)us;
  struct itimerspec spec = {0};
  spec.it_value.tv_sec = (time_t)(whole / 1000000);
  spec.it_value.tv_nsec = (long)(whole % 1000000) * 1000;
  return make_rc(env, timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL));
}

/*
 * checksum(bytes, offset, length, initial): ones' complement sum (RFC 1071) of big-endian 16-bit words, folded to 16
 * bits and not complemented; an odd last byte is padded with zero. `initial` is a sum of the same kind.
 */
static napi_value sys_checksum(napi_env env, napi_callback_info info) {
  napi_value argv[4];
  struct bytes buf;
  int32_t offset, length, initial;
  if (!take_args(env, info, 4, argv) || !take_bytes(env, argv[0], &buf) || !take_i32(env, argv[1], &offset) ||
      !take_i32(env, argv[2], &length) || !take_i32(env, argv[3], &initial))
    return NULL;
  if (offset < 0 || length < 0 || (size_t)offset + (size_t)length > buf.length) return out_of_range(env, "range");
  const uint8_t *p = buf.data + offset;
  uint64_t sum = 0;
  for (; length >= 4; length -= 4, p += 4) {
    uint32_t word;
    memcpy(&word, p, 4);
    sum += word;
  }
  if (length >= 2) {
    uint16_t word;
    memcpy(&word, p, 2);
    sum += word;
    length -= 2;
    p += 2;
  }
  if (length == 1) {
    uint16_t word = 0;
    memcpy(&word, p, 1);
    sum += word;
  }
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  sum = __builtin_bswap16((uint16_t)sum);
#endif
  sum += (uint32_t)initial;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return make_i32(env, (int32_t)sum);
}

const struct method syscall_methods[] = {
    {"open", sys_open},
    {"close", sys_close},
    {"read", sys_read},
    {"write", sys_write},
    {"ioctl", sys_ioctl},
    {"socket", sys_socket},
    {"bind", sys_bind},
    {"connect", sys_connect},
    {"listen", sys_listen},
    {"getsockname", sys_getsockname},
    {"setsockopt", sys_setsockopt},
    {"getsockopt", sys_getsockopt},
    {"attachFilter", sys_attach_filter},
    {"sendto", sys_sendto},
    {"recv", sys_recv},
    {"ifNameToIndex", sys_if_nametoindex},
    {"setns", sys_setns},
    {"unshare", sys_unshare},
    {"prctl", sys_prctl},
    {"monotonicUs", sys_monotonic_us},
    {"timerfdCreate", sys_timerfd_create},
    {"timerfdSet", sys_timerfd_set},
    {"checksum", sys_checksum},
    {NULL, NULL},
};
