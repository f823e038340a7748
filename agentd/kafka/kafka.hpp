// Apache Kafka as the agent needs it: places are produced to and read from by offset; no consumer group, no
// transaction. The only code that knows librdkafka. Thread: one, the caller's, for all calls; librdkafka's own threads
// only write a byte to wake_fd() when poll() has work. Handlers run inside poll(), `outcome` and `place_error` also
// inside the call that failed: they must not call renew_producer(). Fails: nothing here decides. Outcomes come from
// poll(); a produce whose outcome is unknown is reported as not delivered, and what really happened is seen by reading
// the place.
#pragma once
#include "lib/base/ids.hpp"
#include "lib/base/result.hpp"
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace replica {

struct KafkaSettings {
    std::string brokers;
    std::map<std::string, std::string>
        properties; // from replica_kafka_config; those that we rely on were refused already
    size_t message_bytes_max = 9u << 20;
};

// Properties of librdkafka that the product's promises rest on: a file that sets one is refused by name.
Result<std::map<std::string, std::string>> parse_kafka_config(std::string_view text);

struct Message {
    Place place;
    int64_t offset = 0;
    std::string key, value;
    bool tombstone = false;
};

struct PlaceError { // reading of a place stopped: it must be assigned anew
    Place place;
    std::string text;
    bool out_of_range = false; // the offset is not there (any more, or yet)
};

struct Outcome { // of produce(), in no order
    uint64_t token = 0;
    bool delivered = false;
    bool producer_dead = false; // fatal: renew_producer() before anything is produced again
    std::string text;
};

class Kafka {
public:
    struct Handlers {
        std::function<void(Message &&)> message;
        std::function<void(const PlaceError &)> place_error;
        std::function<void(const Outcome &)> outcome;
        std::function<void(int level, const std::string &)> log; // syslog level
    };
    static Result<std::unique_ptr<Kafka>> create(const KafkaSettings &settings, Handlers handlers);
    ~Kafka();

    int wake_fd() const; // readable when poll() has work
    void poll();         // calls the handlers; returns when nothing is left or its share of messages was given

    void produce(const Place &place, std::string_view key, std::string_view value, bool tombstone, uint64_t token);
    Result<void> renew_producer();

    // Prompt: each record at once, for what is acknowledged by it. Batched: what came within some milliseconds
    // together, which costs broker, agent and workers far less for each record.
    enum class Reading : uint8_t { prompt, batched };
    void assign(const Place &place, int64_t offset,
                Reading reading = Reading::prompt); // begin to read, or go on from elsewhere
    void unassign(const Place &place);
    void pause(const Place &place, bool on);

    // Blocking, with a time limit each; used at start and when a place is first needed.
    Result<std::pair<int64_t, int64_t>> offsets(const Place &place, std::chrono::milliseconds limit); // first, end
    struct Topic {
        std::string name;
        int partitions = 0, replication_factor = 0;
        std::map<std::string, std::string> config;
    };
    Result<Topic> describe_topic(const std::string &name,
                                 std::chrono::milliseconds limit); // gone: there is no such topic
    Result<void> create_topic(const Topic &topic, std::chrono::milliseconds limit);

private:
    struct Impl;
    explicit Kafka(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

} // namespace replica
