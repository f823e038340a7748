// What the decisions in agentd/core ask of the world. The shell obeys, tests record. Nothing here waits: every outcome
// comes back as a call on the machine that asked. Thread: all of agentd/core runs on the agent's one Asio thread.
#pragma once
#include "lib/seal/envelope.hpp"
#include "lib/wire/control.hpp"
#include "lib/wire/frame.hpp"
#include "lib/wire/worker.hpp"
#include <chrono>
#include <functional>

namespace replica {

using Time = std::chrono::steady_clock::time_point;
using ClientId = uint64_t; // a connection on the agent's socket

// An authentic record as read from a place.
struct Entry {
    Place place;
    int64_t offset = 0;
    AccountKey account;
    Number number; // {epoch, 0} for open, fence and bulk
    Session session;
    Record record;
};

class Effects {
public:
    virtual ~Effects() = default;

    // Seals under this agent's session and produces; produces the same bytes again, by a new producer if need be, until
    // settled() is called for the number. The outcome is only ever seen by reading the place.
    virtual void produce(const Place &, const AccountKey &, const Number &, const Record &) = 0;
    virtual void settled(const AccountKey &, const Number &) = 0;
    virtual size_t sealed_size(const Record &) const = 0;

    virtual void send(ClientId, const AgentFrame &) = 0;

    // A request to a replica-apply worker; id is filled in. `originate`: on the worker that calls out. The reply comes
    // once, with verdict retry if the worker was lost. BulkOut frames of a SnapshotMailbox are produced by the shell,
    // not seen here.
    using WorkerDone = std::function<void(const Reply &)>;
    virtual void worker(const std::string &account, WorkerRequest, bool originate, WorkerDone) = 0;

    // A record for the control log, under a key made for it. Seen again by following the control log.
    virtual void publish(const std::string &kafka_key, const ControlValue &) = 0;
    virtual void erase(const std::string &kafka_key) = 0; // a tombstone

    enum class Level : uint8_t { info, warning, error };
    virtual void log(Level, const std::string &line) = 0;
};

} // namespace replica
