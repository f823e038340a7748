// What a process remembers of servers that let an operation reach its deadline: the next ones need not wait as long, or
// a command over many mails would wait once for each. Any answer that was not "later" ends it.
#pragma once
#include <chrono>
#include <map>
#include <string>

namespace replica::s3 {

class Outages {
public:
    using Time = std::chrono::steady_clock::time_point;
    enum class Advice : uint8_t { as_usual, once, not_now };

    // `server` did not answer (silent), or only with "later".
    void gave_up(const std::string &server, bool silent, std::string sentence, Time now) {
        servers_[server] = {silent ? now + rest : now, std::move(sentence)};
    }
    void answered(const std::string &server) {
        if (!servers_.empty()) servers_.erase(server);
    }
    Advice advice(const std::string &server, Time now, std::string *sentence_r) const {
        auto found = servers_.find(server);
        if (found == servers_.end()) return Advice::as_usual;
        *sentence_r = found->second.sentence;
        return now < found->second.silent_until ? Advice::not_now : Advice::once;
    }

private:
    static constexpr std::chrono::seconds rest{5};
    struct Outage {
        Time silent_until;
        std::string sentence;
    };
    std::map<std::string, Outage> servers_;
};

} // namespace replica::s3
