// What a lib-fs driver needs of Dovecot: lib-fs from inside, lib-http as a client. Include it like dovecot.hpp, after
// every C++ and system header.
#pragma once
#include <sys/stat.h>
#include <sys/time.h>
#include <string>

extern "C" {
#include "config.h"
#include "lib.h"
#include "array.h"
#define FS_WRAPPER_H // names an enum before it is declared, and is for wrappers only
#include "fs-api-private.h"
#include "guid.h"
#include "hash-method.h"
#include "http-client.h"
#include "http-date.h"
#include "http-response.h"
#include "ioloop.h"
#include "iostream-ssl.h"
#include "iostream-temp.h"
#include "istream-private.h"
#include "llist.h"
#include "ostream.h"
#include "randgen.h"
#include "settings-parser.h"
#include "time-util.h"
}

#define REPLICA_DOVECOT_24 DOVECOT_PREREQ(2, 4, 0)
#if REPLICA_DOVECOT_24
extern "C" {
#include "settings.h"
}
#endif

namespace replica::compat {

#if REPLICA_DOVECOT_24

// fs_s3_url = what stands behind "s3:" on 2.3. Made known to Dovecot by plugin/settings.
struct FsS3Settings {
    pool_t pool;
    const char *url;
};
inline const struct setting_parser_info &fs_s3_settings_info() {
    static const FsS3Settings defaults = {.pool = nullptr, .url = ""};
    static const struct setting_define defines[] = {
        {.type = SET_STR, .key = "fs_s3_url", .offset = offsetof(FsS3Settings, url)},
        {},
    };
    static const struct setting_parser_info info = {
        .name = "fs_s3",
        .plugin_dependency = "libfs_s3",
        .defines = defines,
        .defaults = &defaults,
        .struct_size = sizeof(FsS3Settings),
        .pool_offset1 = 1 + offsetof(FsS3Settings, pool),
    };
    return info;
}

using FsInput = const struct fs_parameters;
// Where it is, as the administrator wrote it.
inline int fs_url(struct fs *fs, const char *, std::string *url_r, const char **error_r) {
    const void *settings = nullptr;
    if ((settings_get)(fs->event, &fs_s3_settings_info(), static_cast<settings_get_flags>(0), __FILE__, __LINE__,
                       &settings, error_r) < 0)
        return -1;
    auto *set = static_cast<const FsS3Settings *>(settings);
    *url_r = set->url;
    pool_t pool = set->pool;
    pool_unref(&pool);
    return 0;
}
template <auto open> int fs_init(struct fs *fs, FsInput *input, const char **error_r) {
    return open(fs, nullptr, input, error_r);
}

#else

using FsInput = const struct fs_settings;
inline int fs_url(struct fs *, const char *args, std::string *url_r, const char **) {
    *url_r = args;
    return 0;
}
template <auto open> int fs_init(struct fs *fs, const char *args, FsInput *input, const char **error_r) {
    return open(fs, args, input, error_r);
}

#endif

struct HttpOptions {
    unsigned connections, attempt_ms, idle_ms;
    const char *ca_file; // or null: the site's own
};

// What both versions call alike.
inline void http_set(struct http_client_settings &set, const HttpOptions &options) {
    set.user_agent = "dovecot-fs-s3";
    set.max_parallel_connections = options.connections;
    set.max_idle_time_msecs = options.idle_ms;
    set.max_connect_attempts = 1;
    set.request_timeout_msecs = set.connect_timeout_msecs = options.attempt_ms;
    set.connect_backoff_time_msecs = 50;
    set.connect_backoff_max_time_msecs = 1000;
}

#if REPLICA_DOVECOT_24

inline int http_ca_file(struct http_client *client, struct event *event, const char *path, const char **error_r) {
    const struct ssl_settings *site;
    if (ssl_client_settings_get(event, &site, error_r) < 0) return -1;
    const struct ssl_iostream_settings *inherited;
    ssl_client_settings_to_iostream_set(site, &inherited);
    struct ssl_iostream_settings ssl = *inherited;
    const char *value;
    if (settings_parse_read_file(path, path, pool_datastack_create(), &value, error_r) < 0) return -1;
    settings_file_get(value, pool_datastack_create(), &ssl.ca);
    ssl.ca_dir = "";
    ssl.verify_remote_cert = true;
    ssl.allow_invalid_cert = false;
    http_client_set_ssl_settings(client, &ssl);
    settings_free(inherited);
    settings_free(site);
    return 0;
}

// A client that tries once: who asks it decides about more. Null: error_r says why.
inline struct http_client *http_client_once(struct fs *fs, FsInput *, const HttpOptions &options,
                                            const char **error_r) {
    struct http_client_settings set;
    pool_t pool = pool_alloconly_create("s3 http settings", 512);
    http_client_settings_init(pool, &set);
    http_set(set, options);
    set.request_max_attempts = 1;
    set.auto_retry = set.auto_redirect = false;
    struct http_client *client = http_client_init(&set, fs->event);
    if (options.ca_file != nullptr && http_ca_file(client, fs->event, options.ca_file, error_r) < 0)
        http_client_deinit(&client);
    pool_unref(&pool);
    return client;
}

#else

inline struct http_client *http_client_once(struct fs *fs, FsInput *input, const HttpOptions &options, const char **) {
    struct ssl_iostream_settings ssl {};
    if (input->ssl_client_set != nullptr) ssl = *input->ssl_client_set;
    ssl.verify_remote_cert = true;
    ssl.allow_invalid_cert = false;
    if (options.ca_file != nullptr) {
        ssl.ca_file = options.ca_file;
        ssl.ca_dir = nullptr;
    }
    struct http_client_settings set {};
    set.ssl = &ssl;
    set.dns_client = input->dns_client;
    http_set(set, options);
    set.event_parent = fs->event;
    set.debug = fs->set.debug;
    set.max_attempts = 1;
    set.no_auto_retry = set.no_auto_redirect = true;
    return http_client_init(&set);
}

#endif

// The callback's type is checked by macros that C++ cannot take.
inline struct http_client_request *http_request(struct http_client *client, const char *method, const char *host,
                                                const char *target, http_client_request_callback_t *callback,
                                                void *context) {
    return (http_client_request)(client, method, host, target, callback, context);
}

} // namespace replica::compat
