// Kafka over librdkafka's mock cluster: what is produced is read back, a place can be rewound and paused, and every
// failed produce is told, so that the same bytes can be produced again.
#include "agentd/kafka/kafka.hpp"
#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <poll.h>

namespace replica {
namespace {

using namespace std::chrono_literals;

struct MockCluster {
    rd_kafka_t *handle;
    rd_kafka_mock_cluster_t *cluster;
    MockCluster() {
        char text[512];
        handle = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), text, sizeof(text));
        cluster = rd_kafka_mock_cluster_new(handle, 1);
        rd_kafka_mock_topic_create(cluster, "log", 2, 1);
    }
    ~MockCluster() {
        rd_kafka_mock_cluster_destroy(cluster);
        rd_kafka_destroy(handle);
    }
};

class KafkaTest : public testing::Test {
protected:
    MockCluster mock;
    std::vector<Message> messages;
    std::vector<PlaceError> errors;
    std::map<uint64_t, Outcome> outcomes;
    std::function<void(const Message &)> on_message = [](auto &) {};
    std::unique_ptr<Kafka> kafka;
    const Place place{"log", 0}, other{"log", 1};

    void SetUp() override {
        Kafka::Handlers handlers;
        handlers.message = [this](Message &&m) {
            messages.push_back(m);
            on_message(m);
        };
        handlers.place_error = [this](const PlaceError &e) { errors.push_back(e); };
        handlers.outcome = [this](const Outcome &o) { outcomes[o.token] = o; };
        KafkaSettings settings;
        settings.brokers = rd_kafka_mock_cluster_bootstraps(mock.cluster);
        settings.properties = {{"topic.metadata.refresh.interval.ms", "1000"}};
        auto made = Kafka::create(settings, std::move(handlers));
        ASSERT_TRUE(made) << made.error().message;
        kafka = std::move(*made);
    }
    // Polls as the agent does: when the descriptor says so.
    bool until(const std::function<bool()> &holds, std::chrono::milliseconds limit = 10s) {
        auto end = std::chrono::steady_clock::now() + limit;
        while (!holds() && std::chrono::steady_clock::now() < end) {
            pollfd fd{kafka->wake_fd(), POLLIN, 0};
            if (::poll(&fd, 1, 20) > 0) kafka->poll();
        }
        return holds();
    }
    void produce(const Place &to, const std::string &value, uint64_t token) {
        kafka->produce(to, "key", value, false, token);
    }
    void produce_all(const Place &to, uint64_t first, uint64_t count) {
        for (uint64_t n = first; n < first + count; n++)
            produce(to, "value " + std::to_string(n), n);
        ASSERT_TRUE(until([&] { return outcomes.size() >= first + count - 1; }));
    }
    std::vector<int64_t> offsets() const {
        std::vector<int64_t> all;
        for (auto &m : messages)
            all.push_back(m.offset);
        return all;
    }
};

TEST_F(KafkaTest, ReadsBackWhatWasProducedInOrder) {
    produce_all(place, 1, 3);
    kafka->produce(place, "gone", {}, true, 4);
    kafka->assign(place, 0);
    ASSERT_TRUE(until([&] { return messages.size() == 4; }));
    EXPECT_EQ(offsets(), (std::vector<int64_t>{0, 1, 2, 3}));
    EXPECT_EQ(messages[1].value, "value 2");
    EXPECT_EQ(messages[1].key, "key");
    EXPECT_FALSE(messages[1].tombstone);
    EXPECT_TRUE(messages[3].tombstone);
    ASSERT_TRUE(until([&] { return outcomes.size() == 4; }));
    for (auto &[token, outcome] : outcomes)
        EXPECT_TRUE(outcome.delivered) << token;
    auto range = kafka->offsets(place, 5s);
    ASSERT_TRUE(range) << range.error().message;
    EXPECT_EQ(*range, (std::pair<int64_t, int64_t>{0, 4}));
}

// The rest of the batch that the handler was called from stands behind the new offset: it must not be seen before it.
TEST_F(KafkaTest, ARewindInsideAHandlerIsSeenAtOnce) {
    produce_all(place, 1, 50);
    produce_all(other, 51, 50);
    bool rewound = false;
    on_message = [&](const Message &m) {
        if (m.place != place || m.offset != 10 || std::exchange(rewound, true)) return;
        kafka->assign(place, 3);
    };
    kafka->assign(place, 0);
    kafka->assign(other, 0);
    auto of = [&](const Place &wanted) {
        std::vector<int64_t> all;
        for (auto &m : messages)
            if (m.place == wanted) all.push_back(m.offset);
        return all;
    };
    ASSERT_TRUE(until([&] { return of(place).size() >= 58 && of(other).size() >= 50; }));
    std::vector<int64_t> expected;
    for (int64_t n = 0; n <= 10; n++)
        expected.push_back(n);
    for (int64_t n = 3; n < 50; n++)
        expected.push_back(n);
    EXPECT_EQ(of(place), expected);
    EXPECT_EQ(of(other).size(), 50u) << "the other place loses nothing by it";
}

TEST_F(KafkaTest, APausedPlaceIsSilentAndGoesOnWhereItWas) {
    produce_all(place, 1, 2);
    kafka->assign(place, 0);
    ASSERT_TRUE(until([&] { return messages.size() == 2; }));
    kafka->pause(place, true);
    produce_all(place, 3, 2);
    EXPECT_FALSE(until([&] { return messages.size() > 2; }, 500ms));
    kafka->pause(place, false);
    ASSERT_TRUE(until([&] { return messages.size() == 4; }));
    EXPECT_EQ(offsets(), (std::vector<int64_t>{0, 1, 2, 3}));
}

TEST_F(KafkaTest, ARewindOfAPausedPlaceReads) {
    produce_all(place, 1, 3);
    kafka->assign(place, 0);
    ASSERT_TRUE(until([&] { return messages.size() == 3; }));
    kafka->pause(place, true);
    kafka->assign(place, 1);
    ASSERT_TRUE(until([&] { return messages.size() == 5; }));
    EXPECT_EQ(offsets(), (std::vector<int64_t>{0, 1, 2, 1, 2}));
}

TEST_F(KafkaTest, AnUnassignedPlaceIsSilent) {
    produce_all(place, 1, 1);
    kafka->assign(place, 0);
    ASSERT_TRUE(until([&] { return messages.size() == 1; }));
    kafka->unassign(place);
    produce_all(place, 2, 1);
    EXPECT_FALSE(until([&] { return messages.size() > 1; }, 500ms));
}

TEST_F(KafkaTest, AnOffsetBehindTheEndIsNamedNotSkipped) {
    produce_all(place, 1, 2);
    kafka->assign(place, 1000);
    ASSERT_TRUE(until([&] { return !errors.empty(); }));
    EXPECT_EQ(errors.front().place, place);
    EXPECT_TRUE(errors.front().out_of_range) << errors.front().text;
    EXPECT_TRUE(messages.empty());
}

TEST_F(KafkaTest, WhatABrokerRefusesForGoodIsTold) {
    rd_kafka_mock_push_request_errors(mock.cluster, 0 /* Produce */, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    produce(place, "value", 7);
    ASSERT_TRUE(until([&] { return outcomes.contains(7); }));
    EXPECT_FALSE(outcomes[7].delivered);
    EXPECT_FALSE(outcomes[7].producer_dead);
    EXPECT_NE(outcomes[7].text, "");
    produce(place, "value", 8); // as the agent produces it again
    ASSERT_TRUE(until([&] { return outcomes.contains(8); }));
    EXPECT_TRUE(outcomes[8].delivered) << outcomes[8].text;
}

TEST_F(KafkaTest, AMessageAboveTheLimitIsRefusedAtOnce) {
    produce(place, std::string(10u << 20, 'x'), 1);
    ASSERT_TRUE(outcomes.contains(1)) << "inside the call";
    EXPECT_FALSE(outcomes[1].delivered);
}

TEST_F(KafkaTest, BrokersThatComeBackGetWhatWaited) {
    produce_all(place, 1, 1);
    rd_kafka_mock_broker_set_down(mock.cluster, 1);
    produce(place, "late", 2);
    EXPECT_FALSE(until([&] { return outcomes.contains(2); }, 500ms)) << "never given up by the clock";
    rd_kafka_mock_broker_set_up(mock.cluster, 1);
    ASSERT_TRUE(until([&] { return outcomes.contains(2); }, 20s));
    EXPECT_TRUE(outcomes[2].delivered);
}

TEST_F(KafkaTest, ADeadProducerSaysSoAndANewOneProduces) {
    produce_all(place, 1, 1);
    // An idempotent producer dies of a sequence that the broker does not know.
    rd_kafka_mock_push_request_errors(mock.cluster, 0 /* Produce */, 1, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    produce(place, "value 2", 2);
    ASSERT_TRUE(until([&] { return outcomes.contains(2); }));
    EXPECT_TRUE(outcomes[2].producer_dead) << outcomes[2].text;
    produce(place, "value 3", 3);
    ASSERT_TRUE(until([&] { return outcomes.contains(3); }));
    EXPECT_TRUE(outcomes[3].producer_dead) << "and goes on to say so";
    ASSERT_TRUE(kafka->renew_producer());
    produce(place, "value 2", 4);
    produce(place, "value 3", 5);
    kafka->assign(place, 0);
    ASSERT_TRUE(until([&] { return messages.size() >= 3 && outcomes.contains(5); }));
    EXPECT_TRUE(outcomes[4].delivered && outcomes[5].delivered);
    EXPECT_EQ(messages[1].value, "value 2");
    EXPECT_EQ(messages[2].value, "value 3");
}

TEST_F(KafkaTest, EndsWithMessagesUnderWay) {
    kafka->assign(place, 0);
    for (uint64_t n = 1; n <= 100; n++)
        produce(place, "value", n);
    kafka.reset();
}

TEST(KafkaConfig, RefusesWhatThePromisesRestOn) {
    EXPECT_FALSE(parse_kafka_config("acks=1\n"));
    EXPECT_FALSE(parse_kafka_config("auto.offset.reset = latest\n"));
    auto good = parse_kafka_config("# comment\nsecurity.protocol=ssl\n");
    ASSERT_TRUE(good) << good.error().message;
    EXPECT_EQ(good->at("security.protocol"), "ssl");
}

} // namespace
} // namespace replica
