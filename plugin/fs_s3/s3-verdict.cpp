#include "plugin/fs_s3/s3-verdict.hpp"
#include "plugin/fs_s3/s3-answer.hpp"
#include <algorithm>
#include <cerrno>

namespace replica::s3 {

namespace {

using Again = Verdict::Again;
using namespace std::chrono_literals;

constexpr std::time_t clock_skew_max = 15 * 60; // what S3 bears
constexpr auto pause_least = 50ms, pause_patient = 500ms, pause_most = 5000ms;

struct Known {
    std::string_view code;
    int error;
    Again again;
    std::string_view sentence; // {bucket} {region} {place} are filled in
};
constexpr Known known[] = {
    {"NoSuchKey", ENOENT, Again::no, "there is no such object"},
    {"NoSuchVersion", ENOENT, Again::no, "there is no such object"},
    {"NoSuchBucket", EINVAL, Again::no, "there is no bucket {bucket}: make it, or correct the name in the setting"},
    {"NoSuchUpload", ETIMEDOUT, Again::no, "the multipart upload was aborted by someone else"},
    {"AccessDenied", EACCES, Again::credentials,
     "access is denied: the policy does not allow this to the key in {place} (without s3:ListBucket on {bucket} a "
     "missing "
     "object looks so, too)"},
    {"AllAccessDisabled", EACCES, Again::no, "all access to the bucket {bucket} is disabled"},
    {"AccountProblem", EACCES, Again::no, "the account that the key belongs to has a problem: ask its provider"},
    {"InvalidAccessKeyId", EACCES, Again::credentials, "the access key in {place} is not known there: correct it"},
    {"SignatureDoesNotMatch", EACCES, Again::credentials,
     "the signature is wrong: the secret key in {place} does not belong to the access key"},
    {"ExpiredToken", EACCES, Again::credentials, "the session token in {place} has expired: renew it"},
    {"TokenRefreshRequired", EACCES, Again::credentials, "the session token in {place} has expired: renew it"},
    {"InvalidToken", EACCES, Again::credentials, "the session token in {place} is not valid: renew it"},
    {"InvalidTokenId", EACCES, Again::credentials, "the session token in {place} is not valid: renew it"},
    {"PermanentRedirect", EINVAL, Again::no,
     "the bucket {bucket} is in another region or at another endpoint than the setting says"},
    {"TemporaryRedirect", ETIMEDOUT, Again::later, "the bucket {bucket} is not yet served at this endpoint"},
    {"IllegalLocationConstraintException", EINVAL, Again::no, "{region} is not the region of the bucket {bucket}"},
    {"EntityTooLarge", EFBIG, Again::no, "the body is larger than the server takes: lower multipart"},
    {"KeyTooLongError", ENAMETOOLONG, Again::no, "the object's name is too long"},
    {"QuotaExceeded", ENOSPC, Again::no, "the quota of the bucket or its owner is used up: raise it"},
    {"InsufficientStorage", ENOSPC, Again::no, "the server's storage is full"},
    {"XMinioStorageFull", ENOSPC, Again::no, "the server's storage is full"},
    {"PreconditionFailed", EEXIST, Again::no, "there is such an object already"},
    {"ConditionalRequestConflict", ETIMEDOUT, Again::soon, "someone else writes the same object"},
    {"OperationAborted", ETIMEDOUT, Again::soon, "someone else changes the same thing"},
    {"BadDigest", EIO, Again::soon, "the body was damaged on the way: its checksum did not match at the server"},
    {"XAmzContentSHA256Mismatch", EIO, Again::soon,
     "the body was damaged on the way: its checksum did not match at the server"},
    {"InvalidPart", ETIMEDOUT, Again::soon, "the list of parts did not reach the server as it was sent"},
    {"IncompleteBody", ETIMEDOUT, Again::soon, "the body did not reach the server whole"},
    {"RequestTimeout", ETIMEDOUT, Again::soon, "the server waited too long for the request"},
    {"NotImplemented", ENOTSUP, Again::no, "the server does not know this kind of request"},
    {"InvalidObjectState", EIO, Again::no,
     "the object is in an archive class: restore it, and let no lifecycle rule move bodies there"},
};

std::string filled(std::string_view sentence, const Where &where) {
    std::string out;
    while (!sentence.empty()) {
        auto open = std::min(sentence.find('{'), sentence.size());
        out += sentence.substr(0, open);
        sentence.remove_prefix(open);
        if (sentence.empty()) break;
        auto name = sentence.substr(1, sentence.find('}') - 1);
        out += name == "bucket" ? where.bucket : name == "region" ? where.region : where.credentials_place;
        sentence.remove_prefix(name.size() + 2);
    }
    return out;
}

std::string minutes_off(std::time_t seconds) {
    auto minutes = (std::abs(seconds) + 30) / 60;
    return std::to_string(minutes) + (minutes == 1 ? " minute " : " minutes ") + (seconds > 0 ? "ahead of" : "behind");
}

// An answer of S3's that says no.
Verdict of_error(const Answer &answer, const ErrorAnswer &error, const Where &where) {
    auto off = answer.date ? where.now - *answer.date : 0;
    if (error.code == "RequestTimeTooSkewed" || (answer.status == 403 && std::abs(off) > clock_skew_max))
        return {EACCES, Again::no,
                "the clocks differ" + (answer.date ? ": this host is " + minutes_off(off) + " the server" : "") +
                    "; set this host's clock (NTP)",
                error.code};
    if (error.code.starts_with("AuthorizationHeaderMalformed") || error.code == "InvalidRegionName")
        return {EINVAL, Again::no,
                "the region " + std::string(where.region) + " is wrong" +
                    (error.region.empty() ? "" : ": the server says " + error.region),
                error.code};
    for (const auto &entry : known)
        if (entry.code == error.code) return {entry.error, entry.again, filled(entry.sentence, where), error.code};
    std::string said = error.code + (error.message.empty() ? "" : ": " + error.message.substr(0, 200));
    if (answer.status == 503 || answer.status == 429)
        return {ETIMEDOUT, Again::later, "the server is overloaded: " + said, error.code};
    if (answer.status == 507) return {ENOSPC, Again::no, "the server's storage is full", error.code};
    if (answer.status >= 500) return {ETIMEDOUT, Again::soon, "the server failed: " + said, error.code};
    return {EIO, Again::no, "the server refused: " + said, error.code};
}

// No XML of S3's: a proxy's or a balancer's page, or an answer without a body.
Verdict of_page(const Answer &answer) {
    std::string status = std::to_string(answer.status) + " " + std::string(answer.reason);
    std::string what = answer.body.empty() ? "answered " + status + " and nothing else"
                                           : "answered " + status +
                                                 " with a page that is not S3's: is a proxy or another server there?";
    if (answer.status == 412) return {EEXIST, Again::no, "there is such an object already", {}};
    if (answer.status == 503 || answer.status == 429) return {ETIMEDOUT, Again::later, what, {}};
    if (answer.status >= 500 || answer.status == 408) return {ETIMEDOUT, Again::soon, what, {}};
    if ((answer.status == 401 || answer.status == 403) && answer.body.empty())
        return {EACCES, Again::credentials, "access is denied: " + what, {}};
    return {EIO, Again::no, what, {}};
}

} // namespace

Verdict judge_answer(const Answer &answer, const Where &where) {
    auto error = parse_error(answer.body);
    Verdict verdict = error ? of_error(answer, *error, where) : of_page(answer);
    verdict.sentence = std::string(where.object) + ": " + verdict.sentence;
    if (error && verdict.sentence.find(error->code) == std::string::npos) verdict.sentence += " (" + error->code + ")";
    return verdict;
}

Verdict judge_silence(NoAnswer kind, std::string_view why, const Where &where) {
    std::string object(where.object), reason(why.substr(0, why.find(" (Request ")));
    const auto silent = [&](const char *what) {
        return Verdict{ETIMEDOUT, Again::soon, object + ": " + what + ": " + reason, {}, true};
    };
    switch (kind) {
    case NoAnswer::host_unknown:
        return silent("the host's name cannot be resolved");
    case NoAnswer::not_connected:
        if (why.find("SSL") == why.npos && why.find("ertificate") == why.npos) return silent("no connection");
        return {EACCES,
                Again::no,
                object + ": TLS failed: " + reason +
                    " (name the authority's file with ca=FILE, and use the name that the certificate has)",
                {}};
    case NoAnswer::lost:
        return silent("the connection was lost");
    case NoAnswer::timed_out:
        return silent("no answer in time");
    case NoAnswer::other:
        break;
    }
    return {EIO, Again::soon, object + ": " + reason, {}};
}

std::chrono::milliseconds pause_before(unsigned attempt, Again again, uint32_t drawn) {
    auto whole = again == Again::later ? pause_patient : pause_least;
    for (unsigned i = 1; i < attempt && whole < pause_most; i++)
        whole *= 2;
    whole = std::min(whole, std::chrono::milliseconds(pause_most));
    return whole / 2 + std::chrono::milliseconds(drawn % static_cast<uint32_t>(whole.count() / 2 + 1));
}

} // namespace replica::s3
