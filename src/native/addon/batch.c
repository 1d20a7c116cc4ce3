/*
 * Batches: one call moves many packets between a descriptor and memory that JavaScript owns. Sockets use
 * recvmmsg/sendmmsg; other descriptors (TUN) a loop of read/writev. Nothing here looks into a packet.
 */
#define _GNU_SOURCE
#include "addon.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_MESSAGES 64
#define MAX_IOVECS 1024

static _Thread_local struct mmsghdr messages[MAX_MESSAGES];
static _Thread_local struct iovec iovecs[MAX_IOVECS];

/* Flags of receiveBatch and sendBatch. */
#define BATCH_SOCKET 1

/* Fills messages[0..n) to receive into consecutive slots, and receives. */
static int receive_messages(int fd, uint8_t *at, size_t slot_bytes, size_t capacity, int n, int32_t *length,
                            uint8_t *truncated) {
  for (int i = 0; i < n; i++) {
    iovecs[i].iov_base = at + (size_t)i * slot_bytes;
    iovecs[i].iov_len = capacity;
    memset(&messages[i].msg_hdr, 0, sizeof messages[i].msg_hdr);
    messages[i].msg_hdr.msg_iov = &iovecs[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  int got = recvmmsg(fd, messages, (unsigned)n, MSG_DONTWAIT, NULL);
  for (int i = 0; i < got; i++) {
    length[i] = (int32_t)messages[i].msg_len;
    truncated[i] = (messages[i].msg_hdr.msg_flags & MSG_TRUNC) != 0;
  }
  return got;
}

/*
 * receiveBatch(fd, flags, slab, slotBytes, leadBytes, maxSlots, length, truncated): packet i goes to
 * slab[i * slotBytes + leadBytes ...], its size to length[i]; truncated[i] = 1 where it was longer than the slot (for
 * other descriptors than sockets: where it filled the slot). Returns the count, 0 if there is nothing, or -errno.
 */
static napi_value receive_batch(napi_env env, napi_callback_info info) {
  napi_value argv[8];
  int32_t fd, flags, slot_bytes, lead, slots;
  struct bytes slab, truncated;
  struct ints length;
  if (!take_args(env, info, 8, argv) || !take_i32(env, argv[0], &fd) || !take_i32(env, argv[1], &flags) ||
      !take_bytes(env, argv[2], &slab) || !take_i32(env, argv[3], &slot_bytes) || !take_i32(env, argv[4], &lead) ||
      !take_i32(env, argv[5], &slots) || !take_ints(env, argv[6], &length) || !take_bytes(env, argv[7], &truncated))
    return NULL;
  if (slots < 0 || lead < 0 || slot_bytes <= lead || (size_t)slots * (size_t)slot_bytes > slab.length ||
      (size_t)slots > length.length || (size_t)slots > truncated.length)
    return out_of_range(env, "receiveBatch: slots do not fit");

  size_t capacity = (size_t)(slot_bytes - lead);
  int32_t done = 0;
  while (done < slots) {
    uint8_t *at = slab.data + (size_t)done * (size_t)slot_bytes + lead;
    ssize_t got;
    if (flags & BATCH_SOCKET) {
      int want = slots - done < MAX_MESSAGES ? slots - done : MAX_MESSAGES;
      got = receive_messages(fd, at, (size_t)slot_bytes, capacity, want, length.data + done, truncated.data + done);
      if (got > 0) {
        done += (int32_t)got;
        if (got < want) break;
        continue;
      }
    } else {
      got = read(fd, at, capacity);
      if (got > 0) {
        length.data[done] = (int32_t)got;
        truncated.data[done] = (size_t)got == capacity;
        done++;
        continue;
      }
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && done == 0 && errno != EAGAIN) return make_i32(env, -errno);
    break;
  }
  return make_i32(env, done);
}

/* Hands n prepared messages to the kernel; returns how many it took (0 with errno set on failure of the first). */
static int send_messages(int fd, int flags, int n) {
  if (flags & BATCH_SOCKET) {
    int sent;
    do sent = sendmmsg(fd, messages, (unsigned)n, MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? 0 : sent;
  }
  for (int i = 0; i < n; i++) {
    ssize_t rc;
    do rc = writev(fd, messages[i].msg_hdr.msg_iov, (int)messages[i].msg_hdr.msg_iovlen);
    while (rc < 0 && errno == EINTR);
    if (rc < 0) return i;
  }
  return n;
}

struct parts {
  napi_value array; /* NULL: packets are a head only */
  struct ints start, offset, length;
};

/* Adds the slices of packet i to iovecs[*used..]; false with an exception pending if they are not inside their array. */
static bool add_parts(napi_env env, const struct parts *parts, int32_t i, size_t *used) {
  for (int32_t p = parts->start.data[i]; p < parts->start.data[i + 1]; p++) {
    napi_value element;
    struct bytes part;
    if (napi_get_element(env, parts->array, (uint32_t)p, &element) != napi_ok || !take_bytes(env, element, &part))
      return false;
    int32_t offset = parts->offset.data[p], length = parts->length.data[p];
    if (offset < 0 || length < 0 || (size_t)offset + (size_t)length > part.length) {
      napi_throw_range_error(env, NULL, "sendBatch: part out of range");
      return false;
    }
    iovecs[*used].iov_base = part.data + offset;
    iovecs[*used].iov_len = (size_t)length;
    (*used)++;
  }
  return true;
}

/*
 * sendBatch(fd, flags, heads, headOffset, headLength, prefixBytes, parts | null, partStart, partOffset, partLength,
 * from, to, names | null, nameBytes, nameIndex): sends packets [from, to). Packet i is heads[headOffset[i] -
 * prefixBytes .. headOffset[i] + headLength[i]) followed by its slices; its destination is the nameBytes at
 * names[nameIndex[i] * nameBytes]. Returns how many packets were taken; if none, 0 on EAGAIN/ENOBUFS, else -errno.
 */
static napi_value send_batch(napi_env env, napi_callback_info info) {
  napi_value argv[15];
  int32_t fd, flags, prefix, from, to, name_bytes = 0;
  struct bytes heads, names = {NULL, 0}, name_index = {NULL, 0};
  struct ints head_offset, head_length;
  struct parts parts = {0};
  if (!take_args(env, info, 15, argv) || !take_i32(env, argv[0], &fd) || !take_i32(env, argv[1], &flags) ||
      !take_bytes(env, argv[2], &heads) || !take_ints(env, argv[3], &head_offset) ||
      !take_ints(env, argv[4], &head_length) || !take_i32(env, argv[5], &prefix) || !take_i32(env, argv[10], &from) ||
      !take_i32(env, argv[11], &to))
    return NULL;
  if (from < 0 || to < from || (size_t)to > head_offset.length || (size_t)to > head_length.length)
    return out_of_range(env, "sendBatch: packets");
  if (!is_nullish(env, argv[6])) {
    parts.array = argv[6];
    if (!take_ints(env, argv[7], &parts.start) || !take_ints(env, argv[8], &parts.offset) ||
        !take_ints(env, argv[9], &parts.length))
      return NULL;
    if ((size_t)to + 1 > parts.start.length) return out_of_range(env, "sendBatch: partStart");
  }
  if (!is_nullish(env, argv[12])) {
    if (!take_bytes(env, argv[12], &names) || !take_i32(env, argv[13], &name_bytes) ||
        !take_bytes(env, argv[14], &name_index))
      return NULL;
    if (name_bytes < 0 || (size_t)to > name_index.length) return out_of_range(env, "sendBatch: nameIndex");
  }

  int32_t i = from, taken = 0;
  while (i < to) {
    int n = 0;
    size_t used = 0;
    for (; i < to && n < MAX_MESSAGES; i++, n++) {
      size_t slices = 0;
      if (parts.array != NULL) {
        int32_t first = parts.start.data[i], last = parts.start.data[i + 1];
        if (first < 0 || last < first || (size_t)last > parts.offset.length || (size_t)last > parts.length.length)
          return out_of_range(env, "sendBatch: partStart");
        slices = (size_t)(last - first);
        if (slices + 1 > MAX_IOVECS) return out_of_range(env, "sendBatch: too many parts in one packet");
      }
      if (used + 1 + slices > MAX_IOVECS) break;
      int64_t begin = (int64_t)head_offset.data[i] - prefix, length = (int64_t)head_length.data[i] + prefix;
      if (begin < 0 || length < 0 || (size_t)(begin + length) > heads.length)
        return out_of_range(env, "sendBatch: head");
      struct msghdr *msg = &messages[n].msg_hdr;
      memset(msg, 0, sizeof *msg);
      msg->msg_iov = &iovecs[used];
      iovecs[used].iov_base = heads.data + begin;
      iovecs[used].iov_len = (size_t)length;
      used++;
      if (slices > 0 && !add_parts(env, &parts, i, &used)) return NULL;
      msg->msg_iovlen = (size_t)(&iovecs[used] - msg->msg_iov);
      if (names.data != NULL) {
        size_t at = (size_t)name_index.data[i] * (size_t)name_bytes;
        if (at + (size_t)name_bytes > names.length) return out_of_range(env, "sendBatch: name");
        msg->msg_name = names.data + at;
        msg->msg_namelen = (socklen_t)name_bytes;
      }
    }
    errno = 0;
    int sent = send_messages(fd, flags, n);
    taken += sent;
    if (sent < n) break;
  }
  if (taken == 0 && to > from && errno != 0 && errno != EAGAIN && errno != ENOBUFS) return make_i32(env, -errno);
  return make_i32(env, taken);
}

const struct method batch_methods[] = {
    {"receiveBatch", receive_batch},
    {"sendBatch", send_batch},
    {NULL, NULL},
};
