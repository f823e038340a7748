// One operation on the bucket: a request, signed anew for each attempt, until it succeeds, cannot succeed, or its
// deadline has passed. What it brings was checked: no body that is cut or damaged leaves here. Thread: Dovecot's only
// one. Runs in the current ioloop; Client::wait() makes it synchronous. Owns: its request and what it has received.
// Destroying it aborts it.
#pragma once
#include "plugin/fs_s3/s3-hash.hpp"
#include "plugin/fs_s3/s3-sign.hpp"
#include "plugin/fs_s3/s3-verdict.hpp"
#include <functional>
#include <memory>
#include "plugin/compat/fs-driver.hpp"

namespace replica::s3 {

class Client;

// What an upload sends: a part of a seekable stream, and its digests (raw).
struct Payload {
    struct istream *input = nullptr;
    uint64_t offset = 0, size = 0;
    std::string md5, sha256;
};
void hash_payload(Payload &payload); // reads the stream; input->stream_errno tells a failure

struct Operation {
    std::string method, key;
    Pairs query, headers;
    const Payload *payload = nullptr; // kept by the caller while the call lives
    bool brings_object = false;       // the answer's body is an object, not a text
    bool wants_etag = false;          // without it, it was not S3 that answered
};

struct Unref {
    void operator()(struct istream *stream) const { i_stream_unref(&stream); }
};
using Stream = std::unique_ptr<struct istream, Unref>;

// Ended well if error is 0.
struct Outcome {
    int error = 0;
    std::string sentence, code;
    Pairs headers; // names in lower case
    std::string text;
    Stream object;

    std::string_view header(std::string_view name) const;
};

class Call {
public:
    Call(Client &client, Operation operation, std::function<void()> done = {});
    ~Call();
    Call(const Call &) = delete;

    bool finished() const { return finished_; }
    unsigned attempts() const { return attempt_; }
    Outcome &outcome() { return outcome_; }
    void move_to_current_ioloop();

private:
    static void responded(const struct http_response *response, void *context);
    static void payload_readable(Call *call);
    static void pause_over(Call *call);
    void send();
    void send_after(std::chrono::milliseconds pause);
    Unsigned to_sign(const std::string &date) const;
    void receive(const struct http_response *response);
    void choose_digest();
    void read_payload();
    void take(const unsigned char *data, size_t size);
    void complete();
    Verdict judged_success();
    Verdict judged_object();
    Verdict judged_upload();
    void failed(const Verdict &verdict);
    void ask_why();
    void give_up(bool silent);
    void finish();
    void drop_answer();
    Where where() const;

    Client &client_;
    Operation operation_;
    std::function<void()> done_;
    std::string object_name_;
    std::chrono::steady_clock::time_point deadline_;
    unsigned attempt_ = 0, damaged_ = 0;
    bool finished_ = false, asking_why_ = false;
    bool once_ = false;      // the server let others wait in vain
    bool cut_short_ = false; // this attempt has less than a whole timeout until the deadline
    Credentials signed_with_;

    struct http_client_request *request_ = nullptr;
    unsigned status_ = 0;
    std::string reason_;
    std::optional<std::time_t> server_date_;
    struct istream *payload_ = nullptr;
    struct io *io_ = nullptr;
    struct timeout *pause_ = nullptr;
    struct ostream *spool_ = nullptr;
    std::optional<Digest> digest_;
    std::string digest_expected_; // raw
    uint64_t received_ = 0;
    Outcome outcome_;
};

} // namespace replica::s3
