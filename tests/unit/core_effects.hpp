// Effects that are only written down, for tests of the step machines in agentd/core.
#pragma once
#include "agentd/core/effects.hpp"
#include <deque>
#include <gtest/gtest.h>

namespace replica {

struct RecordedEffects final : Effects {
    struct Produced {
        Place place;
        Number number;
        Record record;
    };
    struct Asked {
        WorkerRequest request;
        bool originate;
        WorkerDone done;
    };
    std::deque<Produced> produced;
    std::vector<Number> settled_numbers;
    std::deque<std::pair<ClientId, AgentFrame>> sent;
    std::deque<Asked> asked;
    std::vector<std::string> logged;

    void produce(const Place &place, const AccountKey &, const Number &number, const Record &record) override {
        produced.push_back({place, number, record});
    }
    void settled(const AccountKey &, const Number &number) override { settled_numbers.push_back(number); }
    size_t sealed_size(const Record &record) const override { return encode(record).size() + 100; }
    void send(ClientId client, const AgentFrame &frame) override { sent.emplace_back(client, frame); }
    void worker(const std::string &, WorkerRequest request, bool originate, WorkerDone done) override {
        asked.push_back({std::move(request), originate, std::move(done)});
    }
    void publish(const std::string &, const ControlValue &) override {}
    void erase(const std::string &) override {}
    void log(Level, const std::string &line) override { logged.push_back(line); }

    // The next thing of each kind; the test fails if there is none, or another.
    Produced next_produced() { return next(produced); }
    template <class Frame> Frame next_sent(ClientId client) {
        auto [to, frame] = next(sent);
        EXPECT_EQ(to, client);
        EXPECT_TRUE(std::holds_alternative<Frame>(frame)) << "frame " << frame.index();
        return std::holds_alternative<Frame>(frame) ? std::get<Frame>(frame) : Frame{};
    }
    template <class Request> Request expect_request(bool originate = false) const {
        if (asked.empty()) {
            ADD_FAILURE() << "nothing was asked of a worker";
            return {};
        }
        EXPECT_EQ(asked.front().originate, originate);
        EXPECT_TRUE(std::holds_alternative<Request>(asked.front().request))
            << "request " << asked.front().request.index();
        auto *request = std::get_if<Request>(&asked.front().request);
        return request ? *request : Request{};
    }
    void reply(const Reply &reply) {
        auto first = next(asked);
        if (first.done) first.done(reply);
    }
    void reply(std::vector<Verdict> verdicts, std::string text = {}) {
        Verdict whole = verdicts.empty() ? Verdict::retry : verdicts.back();
        reply(Reply{.verdict = whole, .text = std::move(text), .changes = std::move(verdicts)});
    }

private:
    template <class T> static T next(std::deque<T> &queue) {
        if (queue.empty()) {
            ADD_FAILURE() << "nothing is there";
            return {};
        }
        T first = std::move(queue.front());
        queue.pop_front();
        return first;
    }
};

inline Guid guid(uint8_t n) {
    Guid id;
    id.bytes[0] = n;
    return id;
}
inline Object mailbox(uint8_t n) { return {"", guid(n)}; }
inline Object list_object() { return {}; }

inline Change change_of(const Object &object, Number previous, std::string payload = "change") {
    auto kind = object.is_list() ? ChangeKind::list_rename : ChangeKind::mailbox;
    return {object, kind, {}, previous, std::move(payload)};
}

} // namespace replica
