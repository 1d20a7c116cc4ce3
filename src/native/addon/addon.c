/* Module registration and the argument helpers. */
#include "addon.h"

#include <errno.h>

bool take_args(napi_env env, napi_callback_info info, size_t count, napi_value *argv) {
  size_t given = count;
  if (napi_get_cb_info(env, info, &given, argv, NULL, NULL) != napi_ok) return false;
  if (given >= count) return true;
  napi_throw_type_error(env, NULL, "too few arguments");
  return false;
}

bool take_i32(napi_env env, napi_value value, int32_t *out) {
  if (napi_get_value_int32(env, value, out) == napi_ok) return true;
  napi_throw_type_error(env, NULL, "expected a number");
  return false;
}

bool take_f64(napi_env env, napi_value value, double *out) {
  if (napi_get_value_double(env, value, out) == napi_ok) return true;
  napi_throw_type_error(env, NULL, "expected a number");
  return false;
}

bool take_string(napi_env env, napi_value value, char *out, size_t room) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) {
    napi_throw_type_error(env, NULL, "expected a string");
    return false;
  }
  if (length >= room) {
    napi_throw_range_error(env, NULL, "string too long");
    return false;
  }
  return napi_get_value_string_utf8(env, value, out, room, &length) == napi_ok;
}

static bool take_array(napi_env env, napi_value value, napi_typedarray_type want, void **data, size_t *length) {
  napi_typedarray_type type;
  if (napi_get_typedarray_info(env, value, &type, length, data, NULL, NULL) == napi_ok && type == want) return true;
  napi_throw_type_error(env, NULL, want == napi_uint8_array ? "expected a Uint8Array" : "expected an Int32Array");
  return false;
}

bool take_bytes(napi_env env, napi_value value, struct bytes *out) {
  return take_array(env, value, napi_uint8_array, (void **)&out->data, &out->length);
}

bool take_ints(napi_env env, napi_value value, struct ints *out) {
  return take_array(env, value, napi_int32_array, (void **)&out->data, &out->length);
}

bool is_nullish(napi_env env, napi_value value) {
  napi_valuetype type;
  return napi_typeof(env, value, &type) == napi_ok && (type == napi_null || type == napi_undefined);
}

napi_value out_of_range(napi_env env, const char *what) {
  napi_throw_range_error(env, NULL, what);
  return NULL;
}

napi_value make_i32(napi_env env, int32_t value) {
  napi_value out = NULL;
  napi_create_int32(env, value, &out);
  return out;
}

napi_value make_f64(napi_env env, double value) {
  napi_value out = NULL;
  napi_create_double(env, value, &out);
  return out;
}

napi_value make_rc(napi_env env, long rc) {
  return make_i32(env, rc < 0 ? -errno : (int32_t)rc);
}

static void define(napi_env env, napi_value exports, const struct method *methods) {
  for (; methods->name != NULL; methods++) {
    napi_value fn;
    if (napi_create_function(env, methods->name, NAPI_AUTO_LENGTH, methods->call, NULL, &fn) != napi_ok) return;
    napi_set_named_property(env, exports, methods->name, fn);
  }
}

NAPI_MODULE_INIT() {
  define(env, exports, syscall_methods);
  define(env, exports, batch_methods);
  define(env, exports, poll_methods);
  define(env, exports, tls_methods);
  return exports;
}
