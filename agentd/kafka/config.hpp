// What librdkafka is told, and the admin calls. Internal to agentd/kafka.
#pragma once
#include "agentd/kafka/kafka.hpp"
#include <librdkafka/rdkafka.h>

namespace replica {

enum class ClientKind : uint8_t { producer, prompt_consumer, batched_consumer };
std::map<std::string, std::string> client_properties(const KafkaSettings &settings, ClientKind kind);
Result<Kafka::Topic> describe(rd_kafka_t *client, const std::string &name, std::chrono::milliseconds limit);
Result<void> create_in(rd_kafka_t *client, const Kafka::Topic &topic, std::chrono::milliseconds limit);

} // namespace replica
