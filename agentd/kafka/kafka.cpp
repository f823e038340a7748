#include "agentd/kafka/kafka.hpp"
#include "agentd/kafka/config.hpp"
#include <cassert>
#include <cstring>
#include <librdkafka/rdkafka.h>
#include <set>
#include <sys/eventfd.h>
#include <unistd.h>

namespace replica {

namespace {
constexpr int messages_per_poll = 500;
constexpr const char *wake_payload = "\1\0\0\0\0\0\0\0"; // what an eventfd counts as one (little-endian hosts)

Error failure(rd_kafka_resp_err_t code, const std::string &what) {
    Code kind = Code::retry;
    if (code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
        code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION)
        kind = Code::gone;
    else if (code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
             code == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED || code == RD_KAFKA_RESP_ERR__AUTHENTICATION)
        kind = Code::denied;
    return {kind, what + ": " + rd_kafka_err2str(code)};
}
} // namespace

struct Kafka::Impl {
    KafkaSettings settings;
    Handlers handlers;
    int wake = -1;
    rd_kafka_t *producer = nullptr;
    std::map<std::string, rd_kafka_topic_t *> produce_topics;
    struct Consumer {
        rd_kafka_t *handle = nullptr;
        rd_kafka_queue_t *messages = nullptr;
        std::map<std::string, rd_kafka_topic_t *> topics;
    } prompt, batched;
    struct Assigned {
        Consumer *consumer;
        bool paused;
    };
    std::map<Place, Assigned> assigned;
    std::set<Place> moved; // assigned inside a handler: what the batch still holds of it is from elsewhere

    static void on_log(const rd_kafka_t *handle, int level, const char *, const char *text) {
        auto *self = static_cast<Impl *>(rd_kafka_opaque(handle));
        if (self->handlers.log) self->handlers.log(level, text);
    }
    static void on_delivery(rd_kafka_t *, const rd_kafka_message_t *message, void *opaque) {
        auto *self = static_cast<Impl *>(opaque);
        Outcome outcome{
            reinterpret_cast<uintptr_t>(message->_private), message->err == RD_KAFKA_RESP_ERR_NO_ERROR, false, {}};
        if (!outcome.delivered) {
            outcome.producer_dead = rd_kafka_fatal_error(self->producer, nullptr, 0) != RD_KAFKA_RESP_ERR_NO_ERROR;
            outcome.text = rd_kafka_err2str(message->err);
        }
        self->handlers.outcome(outcome);
    }

    Result<rd_kafka_t *> make(ClientKind kind) {
        rd_kafka_type_t type = kind == ClientKind::producer ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER;
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        auto set = [&](const std::string &name, const std::string &value) -> Result<void> {
            char text[512];
            if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), text, sizeof(text)) != RD_KAFKA_CONF_OK)
                return Error{Code::invalid, "replica_kafka_config: " + std::string(text)};
            return {};
        };
        auto properties = client_properties(settings, kind);
        for (auto &[name, value] : properties) {
            if (auto done = set(name, value); !done) {
                rd_kafka_conf_destroy(conf);
                return done.error();
            }
        }
        rd_kafka_conf_set_opaque(conf, this);
        rd_kafka_conf_set_log_cb(conf, on_log);
        if (type == RD_KAFKA_PRODUCER) rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
        char text[512];
        rd_kafka_t *handle = rd_kafka_new(type, conf, text, sizeof(text));
        if (!handle) {
            rd_kafka_conf_destroy(conf);
            return Error{Code::invalid, "Kafka client: " + std::string(text)};
        }
        // librdkafka logs through a queue of its own, so that the log callback runs in poll(), on our thread
        rd_kafka_set_log_queue(handle, nullptr);
        rd_kafka_queue_t *main = rd_kafka_queue_get_main(handle);
        rd_kafka_queue_io_event_enable(main, wake, wake_payload, 8);
        rd_kafka_queue_destroy(main);
        return handle;
    }

    Result<void> make(Consumer &consumer, ClientKind kind) {
        auto handle = make(kind);
        if (!handle) return handle.error();
        consumer.handle = *handle;
        consumer.messages = rd_kafka_queue_new(consumer.handle);
        rd_kafka_queue_io_event_enable(consumer.messages, wake, wake_payload, 8);
        return {};
    }

    rd_kafka_topic_t *topic(rd_kafka_t *handle, std::map<std::string, rd_kafka_topic_t *> &cache,
                            const std::string &name) {
        auto &slot = cache[name];
        if (!slot) {
            rd_kafka_topic_conf_t *conf = rd_kafka_topic_conf_new();
            if (handle != producer) rd_kafka_topic_conf_set(conf, "auto.offset.reset", "error", nullptr, 0);
            slot = rd_kafka_topic_new(handle, name.c_str(), conf);
        }
        return slot;
    }
    void consume(Consumer &consumer);
    static void drop(std::map<std::string, rd_kafka_topic_t *> &cache) {
        for (auto &[name, topic] : cache)
            rd_kafka_topic_destroy(topic);
        cache.clear();
    }
    static void destroy(Consumer &consumer) {
        drop(consumer.topics);
        if (consumer.messages) rd_kafka_queue_destroy(consumer.messages);
        if (consumer.handle) rd_kafka_destroy(consumer.handle);
    }
    static void set_paused(rd_kafka_t *consumer, const Place &place, bool on) {
        auto *list = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(list, place.topic.c_str(), place.partition);
        on ? rd_kafka_pause_partitions(consumer, list) : rd_kafka_resume_partitions(consumer, list);
        rd_kafka_topic_partition_list_destroy(list);
    }
    void destroy_producer() {
        if (!producer) return;
        rd_kafka_purge(producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
        drop(produce_topics);
        rd_kafka_destroy(producer);
        producer = nullptr;
    }
};

Kafka::Kafka(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Kafka>> Kafka::create(const KafkaSettings &settings, Handlers handlers) {
    auto impl = std::make_unique<Impl>();
    impl->settings = settings;
    impl->handlers = std::move(handlers);
    impl->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    std::unique_ptr<Kafka> kafka(new Kafka(std::move(impl)));
    auto &self = *kafka->impl_;
    if (auto made = self.make(self.prompt, ClientKind::prompt_consumer); !made) return made.error();
    if (auto made = self.make(self.batched, ClientKind::batched_consumer); !made) return made.error();
    if (auto made = kafka->renew_producer(); !made) return made.error();
    return kafka;
}

Kafka::~Kafka() {
    auto &self = *impl_;
    self.destroy_producer();
    while (!self.assigned.empty())
        unassign(Place(self.assigned.begin()->first));
    Impl::destroy(self.prompt);
    Impl::destroy(self.batched);
    if (self.wake >= 0) close(self.wake);
}

Result<void> Kafka::renew_producer() {
    impl_->destroy_producer();
    auto producer = impl_->make(ClientKind::producer);
    if (!producer) return producer.error();
    impl_->producer = *producer;
    return {};
}

int Kafka::wake_fd() const { return impl_->wake; }

void Kafka::poll() {
    auto &self = *impl_;
    uint64_t count;
    (void)!read(self.wake, &count, sizeof(count));
    rd_kafka_poll(self.producer, 0);
    self.consume(self.prompt);
    self.consume(self.batched);
}

void Kafka::Impl::consume(Consumer &consumer) {
    rd_kafka_poll(consumer.handle, 0);
    rd_kafka_message_t *batch[messages_per_poll];
    moved.clear();
    ssize_t n = rd_kafka_consume_batch_queue(consumer.messages, 0, batch, messages_per_poll);
    for (ssize_t i = 0; i < n; i++) {
        auto *m = batch[i];
        Place place{rd_kafka_topic_name(m->rkt), m->partition};
        if (!assigned.contains(place) || moved.contains(place)) {
            // of a place that was unassigned, or assigned anew, meanwhile
        } else if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            handlers.message({place, m->offset, std::string(static_cast<const char *>(m->key), m->key_len),
                              std::string(static_cast<const char *>(m->payload), m->len), m->payload == nullptr});
        } else {
            handlers.place_error(
                {place, rd_kafka_message_errstr(m),
                 m->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET || m->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE});
        }
        rd_kafka_message_destroy(m);
    }
    if (n == messages_per_poll) (void)!write(wake, wake_payload, 8); // more may wait: come back after other work
}

void Kafka::produce(const Place &place, std::string_view key, std::string_view value, bool tombstone, uint64_t token) {
    auto &self = *impl_;
    auto *topic = self.topic(self.producer, self.produce_topics, place.topic);
    void *payload = tombstone ? nullptr : const_cast<char *>(value.data());
    int rc = rd_kafka_produce(topic, place.partition, RD_KAFKA_MSG_F_COPY, payload, tombstone ? 0 : value.size(),
                              key.data(), key.size(), reinterpret_cast<void *>(static_cast<uintptr_t>(token)));
    if (rc == 0) return;
    auto code = rd_kafka_last_error();
    self.handlers.outcome({token, false, code == RD_KAFKA_RESP_ERR__FATAL, rd_kafka_err2str(code)});
}

void Kafka::assign(const Place &place, int64_t offset, Reading reading) {
    auto &self = *impl_;
    auto &consumer = reading == Reading::prompt ? self.prompt : self.batched;
    pause(place, false); // librdkafka would keep it paused
    unassign(place);
    self.assigned[place] = {&consumer, false};
    self.moved.insert(place);
    auto *topic = self.topic(consumer.handle, consumer.topics, place.topic);
    if (rd_kafka_consume_start_queue(topic, place.partition, offset, consumer.messages) != 0)
        self.handlers.place_error({place, rd_kafka_err2str(rd_kafka_last_error()), false});
}

void Kafka::unassign(const Place &place) {
    auto &self = *impl_;
    auto found = self.assigned.find(place);
    if (found == self.assigned.end()) return;
    auto &consumer = *found->second.consumer;
    self.assigned.erase(found);
    rd_kafka_consume_stop(self.topic(consumer.handle, consumer.topics, place.topic), place.partition);
}

void Kafka::pause(const Place &place, bool on) {
    auto found = impl_->assigned.find(place);
    if (found == impl_->assigned.end() || found->second.paused == on) return;
    found->second.paused = on;
    Impl::set_paused(found->second.consumer->handle, place, on);
}

Result<std::pair<int64_t, int64_t>> Kafka::offsets(const Place &place, std::chrono::milliseconds limit) {
    int64_t first = 0, end = 0;
    // Not through a consumer: there the answer stands behind that of a fetch, which waits for records.
    auto code = rd_kafka_query_watermark_offsets(impl_->producer, place.topic.c_str(), place.partition, &first, &end,
                                                 static_cast<int>(limit.count()));
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return failure(code, "offsets of " + to_string(place));
    return std::pair{first, end};
}

Result<Kafka::Topic> Kafka::describe_topic(const std::string &name, std::chrono::milliseconds limit) {
    return describe(impl_->prompt.handle, name, limit);
}
Result<void> Kafka::create_topic(const Topic &topic, std::chrono::milliseconds limit) {
    return create_in(impl_->producer, topic, limit);
}

} // namespace replica
