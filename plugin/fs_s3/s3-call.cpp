#include "plugin/fs_s3/s3-call.hpp"
#include "lib/base/ids.hpp"
#include "plugin/fs_s3/s3-answer.hpp"
#include "plugin/fs_s3/s3-client.hpp"
#include <algorithm>

namespace replica::s3 {

namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr size_t text_bytes_max = 8 * 1024 * 1024; // a page of a list has at most 1,000 keys of 1,024 bytes, escaped
constexpr unsigned damaged_max = 2;
constexpr size_t md5_hex_size = 32;

NoAnswer kind_of(unsigned status) {
    switch (status) {
    case HTTP_CLIENT_REQUEST_ERROR_HOST_LOOKUP_FAILED:
        return NoAnswer::host_unknown;
    case HTTP_CLIENT_REQUEST_ERROR_CONNECT_FAILED:
        return NoAnswer::not_connected;
    case HTTP_CLIENT_REQUEST_ERROR_CONNECTION_LOST:
        return NoAnswer::lost;
    case HTTP_CLIENT_REQUEST_ERROR_TIMED_OUT:
        return NoAnswer::timed_out;
    default:
        return NoAnswer::other;
    }
}

std::string unquoted(std::string_view etag) {
    if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') etag = etag.substr(1, etag.size() - 2);
    return std::string(etag);
}

// The MD5 in hex that the ETag is, or empty: multipart uploads have another, encrypted objects may have.
std::string md5_of_etag(const Outcome &outcome, std::string_view etag) {
    if (outcome.header("x-amz-server-side-encryption").starts_with("aws:kms") ||
        !outcome.header("x-amz-server-side-encryption-customer-algorithm").empty())
        return {};
    std::string text = unquoted(etag);
    bool is_hex = text.size() == md5_hex_size && text.find_first_not_of("0123456789abcdef") == text.npos;
    return is_hex ? text : std::string();
}

} // namespace

void hash_payload(Payload &payload) {
    Digest md5(Digest::Kind::md5), sha256(Digest::Kind::sha256);
    struct istream *input = i_stream_create_range(payload.input, payload.offset, payload.size);
    const unsigned char *data;
    size_t size;
    while (i_stream_read_more(input, &data, &size) > 0) {
        md5.update(data, size);
        sha256.update(data, size);
        i_stream_skip(input, size);
    }
    i_stream_unref(&input);
    payload.md5 = md5.finish();
    payload.sha256 = sha256.finish();
}

std::string_view Outcome::header(std::string_view name) const {
    for (const auto &[key, value] : headers)
        if (key == name) return value;
    return {};
}

Call::Call(Client &client, Operation operation, std::function<void()> done)
    : client_(client), operation_(std::move(operation)), done_(std::move(done)),
      object_name_(client.location().name_of(operation_.key)),
      deadline_(steady_clock::now() + client.location().deadline) {
    client_.began(this);
    client_.move_to_current_ioloop();
    std::string why;
    auto advice = Client::outages().advice(client_.location().host_header(), steady_clock::now(), &why);
    once_ = advice == Outages::Advice::once;
    if (advice != Outages::Advice::not_now) {
        send();
        return;
    }
    outcome_.error = ETIMEDOUT;
    outcome_.sentence = object_name_ + ": not tried, as the server did not answer a moment ago: " + why;
    finish();
}

Call::~Call() {
    timeout_remove(&pause_);
    if (request_ != nullptr) http_client_request_abort(&request_);
    drop_answer();
    client_.ended(this);
}

Where Call::where() const {
    const Location &location = client_.location();
    return {object_name_, location.bucket, location.region, client_.credentials().place(), time(nullptr)};
}

Unsigned Call::to_sign(const std::string &date) const {
    Unsigned request{operation_.method, client_.location().path_of(operation_.key), operation_.query,
                     operation_.headers,
                     to_hex(operation_.payload == nullptr ? sha256("") : operation_.payload->sha256)};
    request.headers.emplace_back("host", client_.location().host_header());
    request.headers.emplace_back("x-amz-date", date);
    request.headers.emplace_back("x-amz-content-sha256", request.payload_sha256);
    if (operation_.payload != nullptr) request.headers.emplace_back("content-md5", base64(operation_.payload->md5));
    if (!signed_with_.session_token.empty())
        request.headers.emplace_back("x-amz-security-token", signed_with_.session_token);
    return request;
}

// Never from lib-http's own callback: a request that fails at once there is forgotten by it.
void Call::send_after(milliseconds pause) {
    pause_ = (timeout_add_short)(static_cast<unsigned>(pause.count()), __FILE__, __LINE__,
                                 reinterpret_cast<timeout_callback_t *>(pause_over), this);
}

void Call::pause_over(Call *call) {
    timeout_remove(&call->pause_);
    call->send();
}

void Call::send() {
    auto credentials = client_.credentials().current();
    if (!credentials)
        return failed({EACCES, Verdict::Again::no, object_name_ + ": " + credentials.error().message, {}});
    signed_with_ = *credentials;
    attempt_++;

    const Location &location = client_.location();
    std::string date = amz_date(time(nullptr));
    Unsigned request = to_sign(date);
    request.headers.emplace_back("authorization", client_.signer().authorization(request, signed_with_, date));
    std::string target = encode_percent(request.path, true);
    if (!request.query.empty()) target += "?" + encode_query(request.query);

    request_ = compat::http_request(client_.http(), request.method.c_str(), location.server().c_str(), target.c_str(),
                                    responded, this);
    http_client_request_set_ssl(request_, location.tls);
    if (location.port != 0) http_client_request_set_port(request_, location.port);
    for (const auto &[name, value] : request.headers)
        http_client_request_add_header(request_, name.c_str(), value.c_str());
    if (operation_.payload != nullptr) {
        const Payload &payload = *operation_.payload;
        struct istream *input = i_stream_create_range(payload.input, payload.offset, payload.size);
        http_client_request_set_payload(request_, input, false);
        i_stream_unref(&input);
    }
    auto left = duration_cast<milliseconds>(deadline_ - steady_clock::now());
    cut_short_ = left < location.timeout;
    io_loop_time_refresh();
    http_client_request_set_timeout_msecs(request_,
                                          static_cast<unsigned>(std::max(left.count(), milliseconds::rep(1))));
    http_client_request_submit(request_);
}

void Call::responded(const struct http_response *response, void *context) {
    static_cast<Call *>(context)->receive(response);
}

void Call::receive(const struct http_response *response) {
    request_ = nullptr;
    if (http_response_is_internal_error(response)) {
        Verdict verdict = judge_silence(kind_of(response->status), response->reason, where());
        // That the deadline came says less than what went wrong before.
        if (cut_short_ && kind_of(response->status) == NoAnswer::timed_out && !outcome_.sentence.empty())
            verdict.sentence = outcome_.sentence;
        return failed(verdict);
    }
    status_ = response->status;
    reason_ = response->reason == nullptr ? "" : response->reason;
    server_date_.reset();
    if (response->date != (time_t)-1) server_date_ = response->date;
    outcome_.headers.clear();
    if (const auto *fields = http_response_header_get_fields(response); fields != nullptr) {
        unsigned count;
        auto *field = static_cast<const struct http_header_field *>(array_get_i(&fields->arr, &count));
        for (unsigned i = 0; i < count; i++)
            outcome_.headers.emplace_back(t_str_lcase(field[i].name), field[i].value);
    }
    received_ = 0;
    choose_digest();
    if (response->payload == nullptr) return complete();

    payload_ = response->payload;
    i_stream_ref(payload_);
    if (operation_.brings_object && status_ / 100 == 2)
        spool_ = iostream_temp_create_sized(client_.spool_prefix(), static_cast<iostream_temp_flags>(0),
                                            object_name_.c_str(), spool_memory_max);
    read_payload();
}

// Only a whole object has a checksum to be compared with.
void Call::choose_digest() {
    digest_.reset();
    if (!operation_.brings_object || status_ != 200) return;
    if (auto expected = outcome_.header(checksum_header); !expected.empty()) {
        digest_.emplace(Digest::Kind::sha256);
        digest_expected_ = expected;
    } else if (std::string md5 = md5_of_etag(outcome_, outcome_.header("etag")); !md5.empty()) {
        digest_.emplace(Digest::Kind::md5);
        digest_expected_ = md5;
    }
}

void Call::payload_readable(Call *call) { call->read_payload(); }

void Call::read_payload() {
    const unsigned char *data;
    size_t size;
    int ret;
    while ((ret = i_stream_read_more(payload_, &data, &size)) > 0) {
        take(data, size);
        i_stream_skip(payload_, size);
    }
    if (ret < 0) return complete();
    if (io_ == nullptr)
        io_ = (io_add_istream)(payload_, __FILE__, __LINE__, reinterpret_cast<io_callback_t *>(payload_readable), this);
}

void Call::take(const unsigned char *data, size_t size) {
    received_ += size;
    if (digest_) digest_->update(data, size);
    if (spool_ != nullptr)
        o_stream_nsend(spool_, data, size);
    else if (outcome_.text.size() + size <= text_bytes_max)
        outcome_.text.append(reinterpret_cast<const char *>(data), size);
}

void Call::complete() {
    std::string lost;
    if (payload_ != nullptr && payload_->stream_errno != 0) lost = i_stream_get_error(payload_);
    io_remove(&io_);
    i_stream_unref(&payload_);
    if (!lost.empty()) return failed(judge_silence(NoAnswer::lost, "in the middle of the body: " + lost, where()));

    if (status_ / 100 != 2) {
        // An answer to HEAD says nothing but its status: an object that is missing looks like a bucket that is.
        if (operation_.method == "HEAD" && status_ / 100 == 4) return ask_why();
        return failed(judge_answer({status_, reason_, outcome_.text, server_date_}, where()));
    }
    Verdict verdict = judged_success();
    if (verdict.error != 0) return failed(verdict);
    if (spool_ != nullptr) outcome_.object.reset(iostream_temp_finish(&spool_, IO_BLOCK_SIZE));
    outcome_.error = 0;
    Client::outages().answered(client_.location().host_header());
    finish();
}

Verdict Call::judged_success() {
    if (asking_why_) {
        asking_why_ = false;
        operation_.method = "HEAD";
        operation_.headers.pop_back();
        return {ETIMEDOUT, Verdict::Again::soon, object_name_ + ": HEAD was refused, and GET was not", {}};
    }
    if (operation_.wants_etag && outcome_.header("etag").empty())
        return {EIO,
                Verdict::Again::soon,
                object_name_ + ": the answer is not S3's (no ETag): is a proxy or another server there?",
                {}};
    // The head of the answer was sent before the work was done: its failure comes in the body.
    if (auto error = parse_error(outcome_.text); error)
        return judge_answer({500, "", outcome_.text, server_date_}, where());
    if (operation_.brings_object) return judged_object();
    if (operation_.wants_etag && operation_.payload != nullptr) return judged_upload();
    return {};
}

Verdict Call::judged_object() {
    if (spool_ != nullptr && o_stream_flush(spool_) < 0)
        return {spool_->stream_errno,
                Verdict::Again::no,
                object_name_ + ": cannot be kept while it is read: " + o_stream_get_error(spool_),
                {}};
    auto length = outcome_.header("content-length");
    bool whole = length.empty() || length == std::to_string(received_);
    if (whole && digest_) whole = to_hex(digest_->finish()) == digest_expected_;
    if (whole) return {};
    auto again = ++damaged_ < damaged_max ? Verdict::Again::soon : Verdict::Again::no;
    return {EIO,
            again,
            object_name_ +
                ": what is stored does not match its checksum: it was cut, damaged or replaced by someone else; "
                "restore an older version of it",
            {}};
}

Verdict Call::judged_upload() {
    std::string md5 = md5_of_etag(outcome_, outcome_.header("etag"));
    if (md5.empty() || md5 == to_hex(operation_.payload->md5)) return {};
    return {EIO,
            Verdict::Again::soon,
            object_name_ + ": the server stored something else than what was sent: the ETag differs",
            {}};
}

// The first byte, for the sake of the error that comes instead.
void Call::ask_why() {
    asking_why_ = true;
    operation_.method = "GET";
    operation_.headers.emplace_back("range", "bytes=0-0");
    drop_answer();
    send_after(milliseconds(0));
}

void Call::failed(const Verdict &verdict) {
    outcome_.error = verdict.error;
    outcome_.sentence = verdict.sentence;
    outcome_.code = verdict.code;
    drop_answer();

    auto pause = milliseconds(0);
    bool again = verdict.again != Verdict::Again::no;
    if (verdict.again == Verdict::Again::credentials) {
        auto now = client_.credentials().current();
        again = now && !(*now == signed_with_);
    } else if (attempt_ > 1 || verdict.again == Verdict::Again::later) {
        pause = pause_before(attempt_, verdict.again, i_rand()); // a lost connection was perhaps only idle for too long
    }
    auto left = deadline_ - steady_clock::now();
    if (again && !once_ && pause < left) return send_after(pause);
    if (outcome_.error != ETIMEDOUT) Client::outages().answered(client_.location().host_header());
    if (again) give_up(verdict.silent);
    finish();
}

void Call::give_up(bool silent) {
    if (outcome_.error == ETIMEDOUT)
        Client::outages().gave_up(client_.location().host_header(), silent,
                                  outcome_.sentence.substr(object_name_.size() + 2), steady_clock::now());
    outcome_.sentence += " (given up after " + std::to_string(attempt_) + (attempt_ == 1 ? " attempt)" : " attempts)");
}

// Nothing of this is touched after: whoever waits may destroy it.
void Call::finish() {
    finished_ = true;
    auto done = std::move(done_);
    client_.call_finished();
    if (done) done();
}

void Call::drop_answer() {
    io_remove(&io_);
    i_stream_unref(&payload_);
    if (spool_ != nullptr) o_stream_destroy(&spool_);
    outcome_.text.clear();
}

void Call::move_to_current_ioloop() {
    if (io_ != nullptr) io_ = io_loop_move_io(&io_);
    if (pause_ != nullptr) pause_ = io_loop_move_timeout(&pause_);
}

} // namespace replica::s3
