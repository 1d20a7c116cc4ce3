/*
 * Shared by the files of the addon. Conventions:
 *  - the addon knows system calls, OpenSSL and arrays, no packet format; formats live in TypeScript;
 *  - a wrong argument is a programmer's error and throws TypeError/RangeError;
 *  - a failing system call returns -errno (the TypeScript side turns it into an exception, or into back-pressure).
 */
#ifndef MPTUN_ADDON_H
#define MPTUN_ADDON_H

#define NAPI_VERSION 8
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
  uint8_t *data;
  size_t length;
};

struct ints {
  int32_t *data;
  size_t length;
};

/* Argument readers: false means that an exception is pending and the function returns NULL. */
bool take_args(napi_env env, napi_callback_info info, size_t count, napi_value *argv);
bool take_i32(napi_env env, napi_value value, int32_t *out);
bool take_f64(napi_env env, napi_value value, double *out);
bool take_string(napi_env env, napi_value value, char *out, size_t room);
bool take_bytes(napi_env env, napi_value value, struct bytes *out);
bool take_ints(napi_env env, napi_value value, struct ints *out);
bool is_nullish(napi_env env, napi_value value);
napi_value out_of_range(napi_env env, const char *what);

napi_value make_i32(napi_env env, int32_t value);
napi_value make_f64(napi_env env, double value);
/* `rc` if it is not negative, else -errno. */
napi_value make_rc(napi_env env, long rc);

struct method {
  const char *name;
  napi_callback call;
};

extern const struct method syscall_methods[];
extern const struct method batch_methods[];
extern const struct method poll_methods[];
extern const struct method tls_methods[];

#endif
