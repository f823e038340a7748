// What an answer that is no success means: for the caller an errno, for the administrator one sentence, for the next
// attempt whether and how soon.
#pragma once
#include <chrono>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

namespace replica::s3 {

struct Verdict {
    enum class Again : uint8_t {
        no,
        soon,        // after the usual pause
        later,       // the server asks for patience
        credentials, // if there are others by now
    };
    int error; // errno
    Again again;
    std::string sentence;
    std::string code;    // S3's own word, or empty
    bool silent = false; // there was no answer at all
};

struct Answer {
    unsigned status;
    std::string_view reason, body;
    std::optional<std::time_t> date; // the server's clock
};

struct Where {
    std::string_view object; // the URL without options
    std::string_view bucket, region, credentials_place;
    std::time_t now;
};

Verdict judge_answer(const Answer &answer, const Where &where);

// There was no answer: why, in lib-http's words.
enum class NoAnswer : uint8_t { host_unknown, not_connected, lost, timed_out, other };
Verdict judge_silence(NoAnswer kind, std::string_view why, const Where &where);

// Half of it fixed, half of it drawn: many clients that failed together do not come back together.
std::chrono::milliseconds pause_before(unsigned attempt, Verdict::Again again, uint32_t drawn);

} // namespace replica::s3
