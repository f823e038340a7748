// The bucket as one file system sees it: location, credentials, connections. lib-http's connections are shared by all
// file systems of the process that speak to the same host, and stay open between them. Thread: Dovecot's only one.
#pragma once
#include "plugin/fs_s3/s3-call.hpp"
#include "plugin/fs_s3/s3-credentials.hpp"
#include "plugin/fs_s3/s3-location.hpp"
#include "plugin/fs_s3/s3-outage.hpp"
#include "plugin/fs_s3/s3-sign.hpp"

namespace replica::s3 {

inline constexpr size_t spool_memory_max = 1024 * 1024; // more than that of one body is in a temporary file
// Of ours, beside the user's metadata: what a body must hash to, also where the ETag is no MD5.
inline constexpr std::string_view checksum_header = "x-amz-meta-body-sha256";

class Client {
public:
    Client(Location location, struct fs *fs, struct http_client *http);
    ~Client();
    Client(const Client &) = delete;

    const Location &location() const { return location_; }
    CredentialSource &credentials() { return credentials_; }
    Signer &signer() { return signer_; }
    static Outages &outages(); // of the whole process: users come and go
    struct http_client *http() {
        return http_;
    }
    const char *spool_prefix() const { return fs_->temp_path_prefix; }

    Outcome run(Operation operation, unsigned *attempts_r = nullptr); // and wait
    void wait(const Call &call);
    void wait_any(); // until one of the calls has finished
    bool move_to_current_ioloop();

    void began(Call *call) { calls_.push_back(call); }
    void ended(const Call *call);
    void call_finished();

private:
    template <class Done> void run_until(Done done);

    Location location_;
    struct fs *fs_;
    struct http_client *http_;
    CredentialSource credentials_;
    Signer signer_;
    struct ioloop *loop_;
    std::vector<Call *> calls_; // alive
    unsigned waiting_ = 0;
    uint64_t finished_ = 0;
};

} // namespace replica::s3
