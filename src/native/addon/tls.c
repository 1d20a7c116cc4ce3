/*
 * One end of a TLS 1.3 connection between arrays, where Node's own binding works between streams: ciphertext in,
 * plaintext out, and back, each in one call. The library is the OpenSSL that every node binary carries and exports; its
 * headers need not be installed, so the functions that we use are declared here (stable through OpenSSL 3).
 *
 * Who the peer is, is the business of the TypeScript side: every certificate is taken, its key can be asked for.
 */
#include "addon.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;
typedef struct ssl_method_st SSL_METHOD;
typedef struct ssl_session_st SSL_SESSION;
typedef struct bio_st BIO;
typedef struct bio_method_st BIO_METHOD;
typedef struct evp_pkey_st EVP_PKEY;
typedef struct x509_st X509;
typedef struct X509_pubkey_st X509_PUBKEY;
typedef struct x509_store_ctx_st X509_STORE_CTX;

extern const SSL_METHOD *TLS_method(void);
extern SSL_CTX *SSL_CTX_new(const SSL_METHOD *method);
extern void SSL_CTX_free(SSL_CTX *context);
extern long SSL_CTX_ctrl(SSL_CTX *context, int command, long number, void *pointer);
extern void SSL_CTX_set_verify(SSL_CTX *context, int mode, int (*verify)(int ok, X509_STORE_CTX *store));
extern int SSL_CTX_use_PrivateKey(SSL_CTX *context, EVP_PKEY *key);
extern int SSL_CTX_use_certificate_ASN1(SSL_CTX *context, int length, const unsigned char *der);
extern int SSL_CTX_set_session_id_context(SSL_CTX *context, const unsigned char *id, unsigned int length);
extern long SSL_CTX_set_timeout(SSL_CTX *context, long seconds);
extern int SSL_CTX_set_alpn_protos(SSL_CTX *context, const unsigned char *protocols, unsigned int length);
extern void SSL_CTX_set_alpn_select_cb(SSL_CTX *context,
                                       int (*select)(SSL *ssl, const unsigned char **out, unsigned char *out_length,
                                                     const unsigned char *in, unsigned int in_length, void *data),
                                       void *data);
extern void SSL_CTX_sess_set_new_cb(SSL_CTX *context, int (*on_session)(SSL *ssl, SSL_SESSION *session));
extern SSL *SSL_new(SSL_CTX *context);
extern void SSL_free(SSL *ssl);
extern void SSL_set_bio(SSL *ssl, BIO *read, BIO *write);
extern void SSL_set_accept_state(SSL *ssl);
extern void SSL_set_connect_state(SSL *ssl);
extern int SSL_set_ex_data(SSL *ssl, int index, void *data);
extern void *SSL_get_ex_data(const SSL *ssl, int index);
extern int SSL_set_session(SSL *ssl, SSL_SESSION *session);
extern int SSL_session_reused(const SSL *ssl);
extern int SSL_do_handshake(SSL *ssl);
extern int SSL_is_init_finished(const SSL *ssl);
extern int SSL_read(SSL *ssl, void *room, int length);
extern int SSL_write(SSL *ssl, const void *bytes, int length);
extern int SSL_shutdown(SSL *ssl);
extern int SSL_has_pending(const SSL *ssl);
extern int SSL_get_error(const SSL *ssl, int result);
extern void SSL_get0_alpn_selected(const SSL *ssl, const unsigned char **name, unsigned int *length);
extern int SSL_export_keying_material(SSL *ssl, unsigned char *out, size_t length, const char *label,
                                      size_t label_length, const unsigned char *context, size_t context_length,
                                      int use_context);
extern X509 *SSL_get1_peer_certificate(const SSL *ssl);
extern void X509_free(X509 *certificate);
extern X509_PUBKEY *X509_get_X509_PUBKEY(const X509 *certificate);
extern int i2d_X509_PUBKEY(const X509_PUBKEY *key, unsigned char **out);
extern int i2d_SSL_SESSION(const SSL_SESSION *session, unsigned char **out);
extern SSL_SESSION *d2i_SSL_SESSION(SSL_SESSION **out, const unsigned char **in, long length);
extern void SSL_SESSION_free(SSL_SESSION *session);
extern EVP_PKEY *d2i_AutoPrivateKey(EVP_PKEY **out, const unsigned char **in, long length);
extern void EVP_PKEY_free(EVP_PKEY *key);
extern BIO_METHOD *BIO_meth_new(int type, const char *name);
extern int BIO_meth_set_read(BIO_METHOD *method, int (*read)(BIO *bio, char *out, int length));
extern int BIO_meth_set_write(BIO_METHOD *method, int (*write)(BIO *bio, const char *in, int length));
extern int BIO_meth_set_ctrl(BIO_METHOD *method, long (*ctrl)(BIO *bio, int command, long number, void *pointer));
extern BIO *BIO_new(const BIO_METHOD *method);
extern void BIO_set_data(BIO *bio, void *data);
extern void *BIO_get_data(BIO *bio);
extern void BIO_set_init(BIO *bio, int is_ready);
extern void BIO_set_flags(BIO *bio, int flags);
extern void BIO_clear_flags(BIO *bio, int flags);
extern unsigned long ERR_get_error(void);
extern void ERR_error_string_n(unsigned long error, char *out, size_t room);
extern void ERR_clear_error(void);
extern void CRYPTO_free(void *memory, const char *file, int line);

#define SSL_CTRL_MODE 33
#define SSL_CTRL_SET_SESS_CACHE_MODE 44
#define SSL_CTRL_SET_MIN_PROTO_VERSION 123
#define SSL_CTRL_SET_MAX_PROTO_VERSION 124
#define SSL_MODE_RELEASE_BUFFERS 0x10
#define SSL_SESS_CACHE_CLIENT 0x1
#define SSL_SESS_CACHE_SERVER 0x2
#define SSL_SESS_CACHE_NO_INTERNAL 0x300
#define SSL_VERIFY_PEER 1
#define SSL_ERROR_WANT_READ 2
#define SSL_ERROR_ZERO_RETURN 6
#define SSL_TLSEXT_ERR_OK 0
#define SSL_TLSEXT_ERR_ALERT_FATAL 2
#define TLS1_3_VERSION 0x0304
#define BIO_TYPE_SOURCE_SINK 0x0400
#define BIO_CTRL_FLUSH 11
#define BIO_RETRY_READ (0x01 | 0x08)

/* What tls_decrypt returns, added up. */
#define TLS_SECURE 1   /* the handshake is done, in this call or before */
#define TLS_ENDED 2    /* the peer's close_notify */
#define TLS_FAILED 4   /* tls_error says why */
#define TLS_OUTPUT 8   /* tls_take has something to send */
#define TLS_SESSION 16 /* tls_session has one to resume */
#define TLS_PARTIAL 32 /* part of a record is kept */

/* One ALPN name, as on the wire: length, name. */
#define ALPN_MAX 32
#define ERROR_MAX 256
/* A server sends two tickets; more than that are not kept. */
#define SESSIONS_MAX 2

struct context {
  SSL_CTX *ctx;
  bool is_server;
  unsigned char alpn[ALPN_MAX];
  unsigned int alpn_length;
};

struct tls {
  SSL *ssl;
  /* Lent for the duration of a call. */
  const uint8_t *in;
  size_t in_length;
  uint8_t *out;
  size_t out_room, out_length;
  /* What OpenSSL said without being lent room. */
  uint8_t *spill;
  size_t spill_length, spill_room;
  unsigned char *session[SESSIONS_MAX];
  int session_length[SESSIONS_MAX], sessions;
  char error[ERROR_MAX];
};

static BIO_METHOD *bio_method;
static pthread_once_t bio_method_once = PTHREAD_ONCE_INIT; /* worker threads share it */

static int bio_read(BIO *bio, char *out, int length) {
  struct tls *t = BIO_get_data(bio);
  BIO_clear_flags(bio, BIO_RETRY_READ);
  if (t->in_length == 0) {
    BIO_set_flags(bio, BIO_RETRY_READ);
    return -1;
  }
  size_t n = (size_t)length < t->in_length ? (size_t)length : t->in_length;
  memcpy(out, t->in, n);
  t->in += n;
  t->in_length -= n;
  return (int)n;
}

static bool spill(struct tls *t, const char *in, size_t length) {
  if (t->spill_length + length > t->spill_room) {
    size_t room = t->spill_length + length + 4096;
    uint8_t *larger = realloc(t->spill, room);
    if (larger == NULL) return false;
    t->spill = larger;
    t->spill_room = room;
  }
  memcpy(t->spill + t->spill_length, in, length);
  t->spill_length += length;
  return true;
}

static int bio_write(BIO *bio, const char *in, int length) {
  struct tls *t = BIO_get_data(bio);
  /* In order: once something had to spill, the rest does too. */
  if (t->spill_length > 0 || t->out_room - t->out_length < (size_t)length) {
    return spill(t, in, (size_t)length) ? length : -1;
  }
  memcpy(t->out + t->out_length, in, (size_t)length);
  t->out_length += (size_t)length;
  return length;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer) {
  (void)bio;
  (void)number;
  (void)pointer;
  return command == BIO_CTRL_FLUSH;
}

static void make_bio_method(void) {
  bio_method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "mptun");
  if (bio_method == NULL) return;
  BIO_meth_set_read(bio_method, bio_read);
  BIO_meth_set_write(bio_method, bio_write);
  BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

/* Pins are checked by the TypeScript side; names and issuers of a self-signed certificate say nothing. */
static int verify_nothing(int ok, X509_STORE_CTX *store) {
  (void)ok;
  (void)store;
  return 1;
}

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_length, const unsigned char *in,
                       unsigned int in_length, void *data) {
  (void)ssl;
  const struct context *c = data;
  for (unsigned int i = 0; i < in_length; i += 1u + in[i]) {
    if (i + c->alpn_length > in_length || memcmp(in + i, c->alpn, c->alpn_length) != 0) continue;
    *out = in + i + 1;
    *out_length = in[i];
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301 3.2: no_application_protocol */
}

static int on_session(SSL *ssl, SSL_SESSION *session) {
  struct tls *t = SSL_get_ex_data(ssl, 0);
  if (t == NULL || t->sessions == SESSIONS_MAX) return 0;
  unsigned char *der = NULL;
  int length = i2d_SSL_SESSION(session, &der);
  if (length <= 0) return 0;
  t->session[t->sessions] = der;
  t->session_length[t->sessions++] = length;
  return 0; /* not kept by reference */
}

static void note_error(char *out) {
  unsigned long error = ERR_get_error();
  if (error == 0) strcpy(out, "TLS failed");
  else ERR_error_string_n(error, out, ERROR_MAX);
  ERR_clear_error();
}

static napi_value throw_tls(napi_env env) {
  char text[ERROR_MAX];
  note_error(text);
  napi_throw_error(env, NULL, text);
  return NULL;
}

static void free_context(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  struct context *c = data;
  SSL_CTX_free(c->ctx);
  free(c);
}

static bool set_up(SSL_CTX *ctx, struct context *c, struct bytes key, struct bytes certificate) {
  SSL_CTX_ctrl(ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_3_VERSION, NULL);
  SSL_CTX_ctrl(ctx, SSL_CTRL_SET_MAX_PROTO_VERSION, TLS1_3_VERSION, NULL);
  SSL_CTX_ctrl(ctx, SSL_CTRL_MODE, SSL_MODE_RELEASE_BUFFERS, NULL);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, verify_nothing);
  const unsigned char *at = key.data;
  EVP_PKEY *private_key = d2i_AutoPrivateKey(NULL, &at, (long)key.length);
  if (private_key == NULL) return false;
  int ok = SSL_CTX_use_certificate_ASN1(ctx, (int)certificate.length, certificate.data) == 1 &&
           SSL_CTX_use_PrivateKey(ctx, private_key) == 1;
  EVP_PKEY_free(private_key);
  if (!ok) return false;
  if (c->is_server) {
    SSL_CTX_set_alpn_select_cb(ctx, select_alpn, c);
    return true;
  }
  SSL_CTX_ctrl(ctx, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL, NULL);
  SSL_CTX_sess_set_new_cb(ctx, on_session);
  return SSL_CTX_set_alpn_protos(ctx, c->alpn, c->alpn_length) == 0;
}

/* tlsContext(isServer, key (PKCS #8, DER), certificate (DER), alpn, sessionId, sessionS): throws what OpenSSL says. */
static napi_value tls_context(napi_env env, napi_callback_info info) {
  napi_value argv[6];
  int32_t is_server, session_s;
  struct bytes key, certificate;
  char alpn[ALPN_MAX - 1], session_id[ALPN_MAX];
  if (!take_args(env, info, 6, argv) || !take_i32(env, argv[0], &is_server) || !take_bytes(env, argv[1], &key) ||
      !take_bytes(env, argv[2], &certificate) || !take_string(env, argv[3], alpn, sizeof alpn) ||
      !take_string(env, argv[4], session_id, sizeof session_id) || !take_i32(env, argv[5], &session_s))
    return NULL;
  pthread_once(&bio_method_once, make_bio_method);
  if (bio_method == NULL) return throw_tls(env);
  struct context *c = calloc(1, sizeof *c);
  SSL_CTX *ctx = SSL_CTX_new(TLS_method());
  if (c == NULL || ctx == NULL) {
    free(c);
    SSL_CTX_free(ctx);
    return throw_tls(env);
  }
  c->ctx = ctx;
  c->is_server = is_server != 0;
  c->alpn_length = (unsigned int)strlen(alpn) + 1;
  c->alpn[0] = (unsigned char)(c->alpn_length - 1);
  memcpy(c->alpn + 1, alpn, c->alpn_length - 1);
  SSL_CTX_set_session_id_context(ctx, (const unsigned char *)session_id, (unsigned int)strlen(session_id));
  SSL_CTX_set_timeout(ctx, session_s);
  napi_value out;
  if (!set_up(ctx, c, key, certificate)) {
    free_context(env, c, NULL);
    return throw_tls(env);
  }
  if (napi_create_external(env, c, free_context, NULL, &out) != napi_ok) return NULL;
  return out;
}

static void release(struct tls *t) {
  SSL_free(t->ssl);
  t->ssl = NULL;
  free(t->spill);
  t->spill = NULL;
  t->spill_length = t->spill_room = 0;
  while (t->sessions > 0) CRYPTO_free(t->session[--t->sessions], __FILE__, __LINE__);
}

static void free_tls(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  release(data);
  free(data);
}

static bool take_external(napi_env env, napi_value value, void **out) {
  if (napi_get_value_external(env, value, out) == napi_ok) return true;
  napi_throw_type_error(env, NULL, "expected a TLS handle");
  return false;
}

/* An end that is not closed. */
static struct tls *take_tls(napi_env env, napi_value value) {
  void *t;
  if (!take_external(env, value, &t)) return NULL;
  if (((struct tls *)t)->ssl != NULL) return t;
  napi_throw_error(env, NULL, "the TLS end is closed");
  return NULL;
}

/* tlsOpen(context, session | null): the end; a client's first flight can be taken at once. */
static napi_value tls_open(napi_env env, napi_callback_info info) {
  napi_value argv[2], out;
  void *data;
  if (!take_args(env, info, 2, argv) || !take_external(env, argv[0], &data)) return NULL;
  struct context *c = data;
  struct bytes session = {NULL, 0};
  if (!is_nullish(env, argv[1]) && !take_bytes(env, argv[1], &session)) return NULL;
  struct tls *t = calloc(1, sizeof *t);
  if (t == NULL) return throw_tls(env);
  t->ssl = SSL_new(c->ctx);
  BIO *bio = BIO_new(bio_method);
  if (t->ssl == NULL || bio == NULL) {
    release(t);
    free(t);
    return throw_tls(env);
  }
  BIO_set_data(bio, t);
  BIO_set_init(bio, 1);
  SSL_set_bio(t->ssl, bio, bio);
  SSL_set_ex_data(t->ssl, 0, t);
  if (c->is_server) {
    SSL_set_accept_state(t->ssl);
  } else {
    const unsigned char *at = session.data;
    SSL_SESSION *s = session.length > 0 ? d2i_SSL_SESSION(NULL, &at, (long)session.length) : NULL;
    if (s != NULL) {
      SSL_set_session(t->ssl, s);
      SSL_SESSION_free(s);
    }
    SSL_set_connect_state(t->ssl);
    SSL_do_handshake(t->ssl);
  }
  ERR_clear_error();
  if (napi_create_external(env, t, free_tls, NULL, &out) != napi_ok) return NULL;
  return out;
}

/* offset and length at argv[0..1], within the array. */
static bool take_part(napi_env env, napi_value *argv, struct bytes *part) {
  int32_t offset, length;
  if (!take_bytes(env, argv[0], part) || !take_i32(env, argv[1], &offset) || !take_i32(env, argv[2], &length)) return false;
  if (offset < 0 || length < 0 || (size_t)offset + (size_t)length > part->length) {
    out_of_range(env, "offset and length");
    return false;
  }
  part->data += offset;
  part->length = (size_t)length;
  return true;
}

/* Reads until `out` is full or `t->in` is used up. Returns TLS_ENDED, TLS_FAILED or 0; stops once behind the handshake. */
static int32_t advance(struct tls *t, struct bytes out, size_t *done) {
  bool was_secure = SSL_is_init_finished(t->ssl);
  for (;;) {
    int n;
    if (!SSL_is_init_finished(t->ssl)) {
      n = SSL_do_handshake(t->ssl);
      if (n == 1) return 0;
    } else {
      if (!was_secure || *done == out.length) return 0;
      n = SSL_read(t->ssl, out.data + *done, (int)(out.length - *done));
      if (n > 0) {
        *done += (size_t)n;
        continue;
      }
    }
    int error = SSL_get_error(t->ssl, n);
    if (error == SSL_ERROR_WANT_READ) return 0;
    if (error == SSL_ERROR_ZERO_RETURN) return TLS_ENDED;
    note_error(t->error);
    return TLS_FAILED;
  }
}

/*
 * tlsDecrypt(end, cipher, offset, length, plain, offset, length, result): TLS_*; result[0]: bytes of plaintext,
 * result[1]: bytes of ciphertext used. It returns right behind the handshake: call it again for the rest.
 */
static napi_value tls_decrypt(napi_env env, napi_callback_info info) {
  napi_value argv[8];
  struct bytes cipher, plain;
  struct ints result;
  struct tls *t;
  if (!take_args(env, info, 8, argv) || (t = take_tls(env, argv[0])) == NULL || !take_part(env, argv + 1, &cipher) ||
      !take_part(env, argv + 4, &plain) || !take_ints(env, argv[7], &result))
    return NULL;
  if (result.length < 2) return out_of_range(env, "result");
  ERR_clear_error();
  t->in = cipher.data;
  t->in_length = cipher.length;
  size_t done = 0;
  int32_t flags = advance(t, plain, &done);
  result.data[0] = (int32_t)done;
  result.data[1] = (int32_t)(cipher.length - t->in_length);
  t->in = NULL;
  t->in_length = 0;
  if (SSL_is_init_finished(t->ssl)) flags |= TLS_SECURE;
  if (t->spill_length > 0) flags |= TLS_OUTPUT;
  if (t->sessions > 0) flags |= TLS_SESSION;
  if (SSL_has_pending(t->ssl)) flags |= TLS_PARTIAL;
  return make_i32(env, flags);
}

/* tlsEncrypt(end, plain, offset, length, cipher, offset, length): bytes of ciphertext, or -1 (tls_error). */
static napi_value tls_encrypt(napi_env env, napi_callback_info info) {
  napi_value argv[7];
  struct bytes plain, cipher;
  struct tls *t;
  if (!take_args(env, info, 7, argv) || (t = take_tls(env, argv[0])) == NULL || !take_part(env, argv + 1, &plain) ||
      !take_part(env, argv + 4, &cipher))
    return NULL;
  ERR_clear_error();
  t->out = cipher.data;
  t->out_room = cipher.length;
  t->out_length = 0;
  int n = plain.length == 0 ? 0 : SSL_write(t->ssl, plain.data, (int)plain.length);
  size_t length = t->out_length;
  t->out = NULL;
  t->out_room = t->out_length = 0;
  if (n == (int)plain.length) return make_i32(env, (int32_t)length);
  note_error(t->error);
  return make_i32(env, -1);
}

/* tlsTake(end): what waits to be sent (handshakes, alerts, answers to key updates), or null. */
static napi_value tls_take(napi_env env, napi_callback_info info) {
  napi_value argv[1], out = NULL;
  struct tls *t;
  if (!take_args(env, info, 1, argv) || (t = take_tls(env, argv[0])) == NULL) return NULL;
  if (t->spill_length == 0) {
    napi_get_null(env, &out);
    return out;
  }
  napi_create_buffer_copy(env, t->spill_length, t->spill, NULL, &out);
  free(t->spill);
  t->spill = NULL;
  t->spill_length = t->spill_room = 0;
  return out;
}

/* tlsEnd(end): says close_notify; take it. */
static napi_value tls_end(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  struct tls *t;
  if (!take_args(env, info, 1, argv) || (t = take_tls(env, argv[0])) == NULL) return NULL;
  if (SSL_is_init_finished(t->ssl)) SSL_shutdown(t->ssl);
  ERR_clear_error();
  return NULL;
}

/* tlsClose(end): frees it now; afterwards it can only be closed. */
static napi_value tls_close(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  void *t;
  if (!take_args(env, info, 1, argv) || !take_external(env, argv[0], &t)) return NULL;
  release(t);
  return NULL;
}

static napi_value make_bytes(napi_env env, unsigned char *der, int length) {
  napi_value out = NULL;
  if (length <= 0) napi_get_null(env, &out);
  else napi_create_buffer_copy(env, (size_t)length, der, NULL, &out);
  CRYPTO_free(der, __FILE__, __LINE__);
  return out;
}

/* tlsPeerKey(end): SubjectPublicKeyInfo of the peer's certificate (DER), or null. */
static napi_value tls_peer_key(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  struct tls *t;
  if (!take_args(env, info, 1, argv) || (t = take_tls(env, argv[0])) == NULL) return NULL;
  X509 *certificate = SSL_get1_peer_certificate(t->ssl);
  unsigned char *der = NULL;
  int length = certificate == NULL ? 0 : i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
  X509_free(certificate);
  return make_bytes(env, der, length);
}

/* tlsSession(end): a session to resume (DER), each once, or null. */
static napi_value tls_session(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  struct tls *t;
  if (!take_args(env, info, 1, argv) || (t = take_tls(env, argv[0])) == NULL) return NULL;
  if (t->sessions == 0) return make_bytes(env, NULL, 0);
  int i = --t->sessions;
  return make_bytes(env, t->session[i], t->session_length[i]);
}

static napi_value tls_is_resumed(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  struct tls *t;
  if (!take_args(env, info, 1, argv) || (t = take_tls(env, argv[0])) == NULL) return NULL;
  return make_i32(env, SSL_session_reused(t->ssl));
}

/* tlsAlpn(end): what was agreed (RFC 7301), or null. */
static napi_value tls_alpn(napi_env env, napi_callback_info info) {
  napi_value argv[1], out = NULL;
  struct tls *t;
  if (!take_args(env, info, 1, argv) || (t = take_tls(env, argv[0])) == NULL) return NULL;
  const unsigned char *name = NULL;
  unsigned int length = 0;
  SSL_get0_alpn_selected(t->ssl, &name, &length);
  if (length == 0) napi_get_null(env, &out);
  else napi_create_string_latin1(env, (const char *)name, length, &out);
  return out;
}

/* tlsExport(end, label, room): fills `room` (RFC 8446 7.5, no context); false: not before the handshake is done. */
static napi_value tls_export(napi_env env, napi_callback_info info) {
  napi_value argv[3], out = NULL;
  struct tls *t;
  struct bytes room;
  char label[64];
  if (!take_args(env, info, 3, argv) || (t = take_tls(env, argv[0])) == NULL ||
      !take_string(env, argv[1], label, sizeof label) || !take_bytes(env, argv[2], &room))
    return NULL;
  int ok = SSL_export_keying_material(t->ssl, room.data, room.length, label, strlen(label), NULL, 0, 1);
  ERR_clear_error();
  napi_get_boolean(env, ok == 1, &out);
  return out;
}

static napi_value tls_error(napi_env env, napi_callback_info info) {
  napi_value argv[1], out = NULL;
  struct tls *t;
  if (!take_args(env, info, 1, argv) || (t = take_tls(env, argv[0])) == NULL) return NULL;
  napi_create_string_latin1(env, t->error, NAPI_AUTO_LENGTH, &out);
  return out;
}

const struct method tls_methods[] = {
    {"tlsContext", tls_context},   {"tlsOpen", tls_open},       {"tlsDecrypt", tls_decrypt},
    {"tlsEncrypt", tls_encrypt},   {"tlsTake", tls_take},       {"tlsEnd", tls_end},
    {"tlsClose", tls_close},       {"tlsPeerKey", tls_peer_key}, {"tlsSession", tls_session},
    {"tlsIsResumed", tls_is_resumed}, {"tlsAlpn", tls_alpn},    {"tlsExport", tls_export},
    {"tlsError", tls_error},       {NULL, NULL},
};
