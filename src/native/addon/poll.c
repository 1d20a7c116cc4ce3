/*
 * Readiness through Node's own event loop: one callback per readiness event, never per packet. node-api-headers has no
 * uv.h, so the few functions that we use are declared here; they are part of libuv's stable 1.x ABI and exported by
 * every node binary. The handle's size comes from uv_handle_size.
 */
#include "addon.h"

#include <stdlib.h>

typedef struct uv_loop_s uv_loop_t;
typedef struct uv_handle_s uv_handle_t;

extern size_t uv_handle_size(int type);
extern void *uv_handle_get_data(const uv_handle_t *handle);
extern void uv_handle_set_data(uv_handle_t *handle, void *data);
extern void uv_close(uv_handle_t *handle, void (*on_closed)(uv_handle_t *handle));
extern void uv_ref(uv_handle_t *handle);
extern void uv_unref(uv_handle_t *handle);
extern int uv_poll_init(uv_loop_t *loop, uv_handle_t *handle, int fd);
extern int uv_poll_start(uv_handle_t *handle, int events, void (*on_event)(uv_handle_t *, int status, int events));
extern int uv_poll_stop(uv_handle_t *handle);

#define UV_POLL 8 /* uv_handle_type */

struct poller {
  napi_env env;
  uv_handle_t *handle;
  napi_ref callback;
  napi_async_context context;
  napi_async_cleanup_hook_handle cleanup;
  bool closed; /* uv_close was called */
  int holders; /* the handle until it is closed, and the JavaScript value until it is collected */
};

static void let_go(struct poller *p) {
  if (--p->holders == 0) free(p);
}

static void on_collected(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  let_go(data);
}

static void on_closed(uv_handle_t *handle) {
  struct poller *p = uv_handle_get_data(handle);
  free(handle);
  p->handle = NULL;
  if (p->cleanup != NULL) napi_remove_async_cleanup_hook(p->cleanup);
  let_go(p);
}

static void close_handle(struct poller *p) {
  if (p->closed) return;
  p->closed = true;
  uv_close(p->handle, on_closed);
}

/* The environment (a worker, or the process) ends with the poller open: libuv insists that handles are closed. */
static void on_environment_end(napi_async_cleanup_hook_handle hook, void *data) {
  (void)hook;
  close_handle(data);
}

static void on_event(uv_handle_t *handle, int status, int events) {
  struct poller *p = uv_handle_get_data(handle);
  napi_env env = p->env;
  napi_handle_scope scope;
  if (p->closed || napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value callback, self, arg, result;
  napi_get_reference_value(env, p->callback, &callback);
  napi_get_global(env, &self);
  napi_create_int32(env, status < 0 ? status : events, &arg);
  if (napi_make_callback(env, p->context, self, callback, 1, &arg, &result) == napi_pending_exception) {
    napi_value error;
    if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

/* pollOpen(fd, callback): a stopped poller. callback(events) with UV_READABLE = 1, UV_WRITABLE = 2, or -errno. */
static napi_value poll_open(napi_env env, napi_callback_info info) {
  napi_value argv[2], name, out;
  int32_t fd;
  uv_loop_t *loop;
  if (!take_args(env, info, 2, argv) || !take_i32(env, argv[0], &fd)) return NULL;
  napi_valuetype type;
  if (napi_typeof(env, argv[1], &type) != napi_ok || type != napi_function) {
    napi_throw_type_error(env, NULL, "expected a function");
    return NULL;
  }
  if (napi_get_uv_event_loop(env, (struct uv_loop_s **)&loop) != napi_ok) return NULL;
  struct poller *p = calloc(1, sizeof *p);
  if (p == NULL || (p->handle = calloc(1, uv_handle_size(UV_POLL))) == NULL) {
    free(p);
    napi_throw_error(env, NULL, "out of memory");
    return NULL;
  }
  int rc = uv_poll_init(loop, p->handle, fd);
  if (rc < 0) {
    free(p->handle);
    free(p);
    return make_i32(env, rc);
  }
  uv_handle_set_data(p->handle, p);
  p->env = env;
  p->holders = 2;
  napi_create_reference(env, argv[1], 1, &p->callback);
  napi_create_string_utf8(env, "mptun.poll", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, NULL, name, &p->context);
  napi_add_async_cleanup_hook(env, on_environment_end, p, &p->cleanup);
  napi_create_external(env, p, on_collected, NULL, &out);
  return out;
}

static struct poller *take_poller(napi_env env, napi_value value) {
  void *p = NULL;
  if (napi_get_value_external(env, value, &p) != napi_ok || p == NULL)
    napi_throw_type_error(env, NULL, "expected a poller");
  return p;
}

/* pollStart(poller, events): 0 stops. The poller keeps the process alive only while it is started (see pollRef). */
static napi_value poll_start(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int32_t events;
  if (!take_args(env, info, 2, argv) || !take_i32(env, argv[1], &events)) return NULL;
  struct poller *p = take_poller(env, argv[0]);
  if (p == NULL) return NULL;
  if (p->closed) return make_i32(env, 0);
  return make_i32(env, events == 0 ? uv_poll_stop(p->handle) : uv_poll_start(p->handle, events, on_event));
}

/* pollRef(poller, on): whether a started poller keeps the process alive. */
static napi_value poll_ref(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int32_t on;
  if (!take_args(env, info, 2, argv) || !take_i32(env, argv[1], &on)) return NULL;
  struct poller *p = take_poller(env, argv[0]);
  if (p == NULL) return NULL;
  if (!p->closed) on ? uv_ref(p->handle) : uv_unref(p->handle);
  return make_i32(env, 0);
}

/* pollClose(poller): idempotent. The descriptor may be closed directly afterwards. */
static napi_value poll_close(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  if (!take_args(env, info, 1, argv)) return NULL;
  struct poller *p = take_poller(env, argv[0]);
  if (p == NULL) return NULL;
  if (!p->closed) {
    close_handle(p);
    napi_delete_reference(env, p->callback);
    napi_async_destroy(env, p->context);
  }
  return make_i32(env, 0);
}

const struct method poll_methods[] = {
    {"pollOpen", poll_open},
    {"pollStart", poll_start},
    {"pollRef", poll_ref},
    {"pollClose", poll_close},
    {NULL, NULL},
};
