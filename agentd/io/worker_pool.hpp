// The connections to the replica-apply workers: requests of an account always go to the same one, in order; replies
// come in order. A lost connection answers everything that was asked of it with `retry`, tells so, and is made again;
// whom a worker worked for each time it died is answered `failed`, so that one account does not stop the others.
// Thread: the loop's. Limits: a worker's unanswered requests are the machines' own windows.
#pragma once
#include "agentd/core/effects.hpp"
#include "agentd/io/loop.hpp"
#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace replica {

class WorkerPool {
public:
    struct Settings {
        std::string socket_path;
        size_t appliers = 2, originators = 1;
    };
    struct Handlers {
        std::function<void(size_t applier)> lost; // its accounts' requests were answered `retry`
        std::function<void(const std::string &account, const std::string &bulk)> bulk;
        std::function<void(const std::string &line)> warn;
    };
    WorkerPool(Loop &loop, Settings settings, Handlers handlers);
    ~WorkerPool();

    void ask(const std::string &account, WorkerRequest request, bool originate, Effects::WorkerDone done);
    size_t applier_of(const std::string &account) const;
    void pause_bulk(bool on); // the producer is full: stop reading from the originators

private:
    struct Worker;
    Worker &worker_of(const std::string &account, bool originate);
    Loop &loop_;
    Settings settings_;
    Handlers handlers_;
    std::vector<std::shared_ptr<Worker>> appliers_, originators_;
};

} // namespace replica
