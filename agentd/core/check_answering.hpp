// What a store that an operation `set` names finds out about the accounts, and answers once: a source its facts, a blob
// written as a probe, and the start; the destination its facts and what it read of the probes, after all sources have
// answered. One account is probed for all that have the same facts. Bounded: at most `window` accounts are at the
// workers. Internal to agentd/core/operations.
#pragma once
#include "agentd/core/operation_context.hpp"
#include <deque>
#include <set>

namespace replica {

class CheckAnswering final : public Answering, public std::enable_shared_from_this<CheckAnswering> {
public:
    CheckAnswering(OperationContext &context, const Operation &operation);
    static bool concerns(const OperationContext &, const Operation &); // this store has to answer it
    void step(Time now) override;
    bool finished() const override { return stage_ == Stage::answered; }
    std::optional<Time> deadline() const override;

    static constexpr size_t window = 32;
    static constexpr std::chrono::milliseconds retry_after{500};

private:
    enum class Stage : uint8_t { inspecting, awaiting_sources, probing, answered };

    struct SentProbe {
        std::string account, name, content;
        size_t item = 0; // a source's, of answer_.items
    };
    void pump();
    void next_stage();
    void send(size_t item);
    void replied(size_t item, const Reply &);
    void inspected(size_t item, const Reply &);
    std::string judge(size_t item, const Reply &) const;
    void probe_written(size_t item, const Reply &);
    void name_start(CheckAnswer::Item &) const;
    void begin_probing();
    void fill(size_t count);
    std::set<std::string> sources() const;
    Result<EpochPlace> start(const std::string &account) const;
    void publish();

    OperationContext &context_;
    Operation operation_;
    bool target_;
    Stage stage_ = Stage::inspecting;
    CheckAnswer answer_;
    std::vector<SentProbe> probes_;   // a source: of its items; the destination: as the sources' answers name them
    std::deque<size_t> todo_, later_; // of answer_.items while inspecting, of probes_ while probing
    size_t at_workers_ = 0;
    bool pumping_ = false;
    Time now_{}, retry_at_{};
};

// The probes of an answer: account, name, content, a line each.
std::vector<std::array<std::string, 3>> probe_lines(const std::string &probe);

} // namespace replica
