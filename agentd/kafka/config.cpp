#include "agentd/kafka/config.hpp"
#include <algorithm>
#include <array>

namespace replica {

namespace {
// The promises rest on these: acknowledged by all in-sync brokers, never reordered, never given up, never skipped.
constexpr std::array relied_on = {"acks",
                                  "request.required.acks",
                                  "enable.idempotence",
                                  "message.timeout.ms",
                                  "delivery.timeout.ms",
                                  "auto.offset.reset",
                                  "enable.auto.commit",
                                  "group.id",
                                  "transactional.id",
                                  "retries",
                                  "message.send.max.retries",
                                  "message.max.bytes",
                                  "bootstrap.servers",
                                  "metadata.broker.list",
                                  "allow.auto.create.topics"};

std::string_view trimmed(std::string_view s) {
    auto first = s.find_first_not_of(" \t\r");
    if (first == s.npos) return {};
    return s.substr(first, s.find_last_not_of(" \t\r") - first + 1);
}

struct EventQueue { // an admin call's answer
    rd_kafka_queue_t *queue;
    rd_kafka_event_t *answer = nullptr;
    explicit EventQueue(rd_kafka_t *client) : queue(rd_kafka_queue_new(client)) {}
    ~EventQueue() {
        if (answer) rd_kafka_event_destroy(answer);
        rd_kafka_queue_destroy(queue);
    }
    Result<void> wait(std::chrono::milliseconds limit, const std::string &what) {
        answer = rd_kafka_queue_poll(queue, static_cast<int>(limit.count()));
        if (!answer) return Error{Code::retry, what + ": no answer from the brokers"};
        if (auto code = rd_kafka_event_error(answer))
            return Error{Code::retry,
                         what + ": " + rd_kafka_event_error_string(answer) + " (" + rd_kafka_err2name(code) + ")"};
        return {};
    }
};

Result<std::map<std::string, std::string>> topic_config(rd_kafka_t *client, const std::string &name,
                                                        std::chrono::milliseconds limit) {
    auto *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name.c_str());
    EventQueue events(client);
    rd_kafka_DescribeConfigs(client, &resource, 1, nullptr, events.queue);
    rd_kafka_ConfigResource_destroy(resource);
    if (auto done = events.wait(limit, "configuration of topic " + name); !done) return done.error();
    size_t resources = 0, entries = 0;
    auto **all =
        rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(events.answer), &resources);
    std::map<std::string, std::string> config;
    for (size_t r = 0; r < resources; r++) {
        if (rd_kafka_ConfigResource_error(all[r]))
            return Error{Code::retry,
                         "configuration of topic " + name + ": " + rd_kafka_ConfigResource_error_string(all[r])};
        auto **list = rd_kafka_ConfigResource_configs(all[r], &entries);
        for (size_t i = 0; i < entries; i++)
            if (const char *value = rd_kafka_ConfigEntry_value(list[i]))
                config[rd_kafka_ConfigEntry_name(list[i])] = value;
    }
    return config;
}
} // namespace

Result<std::map<std::string, std::string>> parse_kafka_config(std::string_view text) {
    std::map<std::string, std::string> properties;
    for (int line_number = 1; !text.empty(); line_number++) {
        auto end = text.find('\n');
        auto line = trimmed(text.substr(0, end));
        text = end == text.npos ? std::string_view{} : text.substr(end + 1);
        if (line.empty() || line[0] == '#') continue;
        std::string where = "line " + std::to_string(line_number) + ": ";
        auto equals = line.find('=');
        if (equals == line.npos || equals == 0) return Error{Code::invalid, where + "expected `name = value`"};
        std::string name(trimmed(line.substr(0, equals)));
        if (std::find(relied_on.begin(), relied_on.end(), name) != relied_on.end())
            return Error{Code::invalid,
                         where + name + " is set by the agent, whose promises rest on it: remove the line"};
        properties[name] = trimmed(line.substr(equals + 1));
    }
    return properties;
}

std::map<std::string, std::string> client_properties(const KafkaSettings &settings, ClientKind kind) {
    // Short waits where a broker fails over; what the administrator sets wins, but for what the promises rest on.
    std::map<std::string, std::string> p = {{"reconnect.backoff.max.ms", "1000"},
                                            {"retry.backoff.ms", "50"},
                                            {"topic.metadata.refresh.fast.interval.ms", "50"},
                                            {"log.queue", "true"},
                                            {"log.connection.close", "false"}};
    bool producer = kind == ClientKind::producer;
    if (producer) p["linger.ms"] = "0";
    if (kind == ClientKind::prompt_consumer) p["fetch.wait.max.ms"] = "100";
    if (kind == ClientKind::batched_consumer) {
        p["fetch.wait.max.ms"] = "10";
        p["fetch.min.bytes"] = "1048576";
    }
    for (auto &[name, value] : settings.properties)
        p[name] = value;
    p["bootstrap.servers"] = settings.brokers;
    if (producer) {
        p["enable.idempotence"] = "true";
        p["acks"] = "all";
        p["message.timeout.ms"] = "0"; // never given up by the clock: a timeout would leave the outcome unknown
        p["message.max.bytes"] = std::to_string(settings.message_bytes_max);
    } else {
        p["enable.auto.commit"] = "false";
        p["allow.auto.create.topics"] = "false";
        p["fetch.message.max.bytes"] = std::to_string(settings.message_bytes_max);
        p["queued.max.messages.kbytes"] = "16384";
    }
    return p;
}

Result<Kafka::Topic> describe(rd_kafka_t *client, const std::string &name, std::chrono::milliseconds limit) {
    const rd_kafka_metadata_t *metadata = nullptr;
    auto code = rd_kafka_metadata(client, 1, nullptr, &metadata, static_cast<int>(limit.count()));
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return Error{Code::retry, std::string("brokers: ") + rd_kafka_err2str(code)};
    Kafka::Topic topic{name, 0, 0, {}};
    for (int i = 0; i < metadata->topic_cnt; i++) {
        auto &t = metadata->topics[i];
        if (name != t.topic || t.partition_cnt == 0) continue;
        topic.partitions = t.partition_cnt;
        topic.replication_factor = t.partitions[0].replica_cnt;
    }
    rd_kafka_metadata_destroy(metadata);
    if (topic.partitions == 0) return Error{Code::gone, "topic " + name + " does not exist"};
    auto config = topic_config(client, name, limit);
    if (!config) return config.error();
    topic.config = std::move(*config);
    return topic;
}

Result<void> create_in(rd_kafka_t *client, const Kafka::Topic &topic, std::chrono::milliseconds limit) {
    char text[512];
    auto *wanted =
        rd_kafka_NewTopic_new(topic.name.c_str(), topic.partitions, topic.replication_factor, text, sizeof(text));
    if (!wanted) return Error{Code::invalid, "topic " + topic.name + ": " + text};
    for (auto &[name, value] : topic.config)
        rd_kafka_NewTopic_set_config(wanted, name.c_str(), value.c_str());
    EventQueue events(client);
    rd_kafka_CreateTopics(client, &wanted, 1, nullptr, events.queue);
    rd_kafka_NewTopic_destroy(wanted);
    if (auto done = events.wait(limit, "creating topic " + topic.name); !done) return done.error();
    size_t count = 0;
    auto **results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(events.answer), &count);
    for (size_t i = 0; i < count; i++) {
        auto code = rd_kafka_topic_result_error(results[i]);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) continue;
        const char *why = rd_kafka_topic_result_error_string(results[i]);
        return Error{Code::retry, "creating topic " + topic.name + ": " + (why ? why : rd_kafka_err2str(code))};
    }
    return {};
}

} // namespace replica
