#include "lib/settings/settings.hpp"
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <set>

namespace replica {
namespace {

using namespace std::chrono_literals;
using Raw = std::map<std::string, std::string>;

std::string refusal(const Raw &raw) {
    auto settings = parse_settings(raw);
    if (settings) return "accepted";
    EXPECT_EQ(settings.error().code, Code::invalid);
    return settings.error().message;
}

std::string read(const std::string &path) {
    std::ifstream file(SOURCE_DIR "/" + path);
    return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Settings, AreAtTheirDefaultsWhereNothingIsSaid) {
    auto settings = parse_settings({}, "store1.example.com");
    ASSERT_TRUE(settings) << settings.error().message;
    EXPECT_EQ(settings->mailstore, "store1.example.com");
    EXPECT_EQ(settings->address, "store1.example.com");
    EXPECT_EQ(settings->partitions, 8u);
    EXPECT_EQ(settings->replication_factor, 3u);
    EXPECT_EQ(settings->min_insync, 2u);
    EXPECT_EQ(settings->ack_timeout, 5s);
    EXPECT_EQ(settings->heartbeat, 1s);
    EXPECT_EQ(settings->record_bytes_max, 8u << 20);
    EXPECT_EQ(settings->on_outage, "fail");
    EXPECT_EQ(settings->apply_workers, 2u);
    EXPECT_EQ(settings->snapshot_rate, 0u);
    EXPECT_EQ(settings->agent_socket, "replica");
    EXPECT_EQ(settings->state_dir, "/var/lib/dovecot-replica");
    EXPECT_EQ(settings->cbox_blobs, "posix:prefix=%h/blobs/");
}

TEST(Settings, TakeWhatIsSaid) {
    auto settings = parse_settings({{"replica_mailstore", "store2.example.com"},
                                    {"replica_brokers", "kafka1:9092, [2001:db8::1]:9093"},
                                    {"replica_ack_timeout", "100ms"},
                                    {"replica_heartbeat", "1min"},
                                    {"replica_record_bytes_max", "65536"},
                                    {"replica_admin", "postmaster@example.com"},
                                    {"quota_rule", "not ours"},
                                    {"replicated", "not ours either"}},
                                   "unused.example.com");
    ASSERT_TRUE(settings) << settings.error().message;
    EXPECT_EQ(settings->mailstore, "store2.example.com");
    EXPECT_EQ(settings->brokers, "kafka1:9092, [2001:db8::1]:9093");
    EXPECT_EQ(settings->ack_timeout, 100ms);
    EXPECT_EQ(settings->heartbeat, 60s);
    EXPECT_EQ(settings->record_bytes_max, 65536u);
    EXPECT_EQ(settings->admin, "postmaster@example.com");
}

TEST(Settings, AnUnknownNameIsRefusedWithTheNearestThatIs) {
    EXPECT_EQ(refusal({{"replica_broker", "a:1"}}), "replica_broker is not a setting; the nearest is replica_brokers");
    EXPECT_EQ(refusal({{"replica_ack_timout", "5s"}}),
              "replica_ack_timout is not a setting; the nearest is replica_ack_timeout");
}

TEST(Settings, AWrongValueIsRefusedWithNameAndRemedy) {
    const struct {
        std::string name, value, message;
    } table[] = {
        {"replica_ack_timeout", "99ms", "write 100ms to 30s"},
        {"replica_ack_timeout", "31s", "write 100ms to 30s"},
        {"replica_ack_timeout", "5", "write 100ms to 30s"},
        {"replica_ack_timeout", "-5s", "write 100ms to 30s"},
        {"replica_ack_timeout", "99999999999999999999s", "write 100ms to 30s"},
        {"replica_ack_timeout", "18446744073709551615h", "write 100ms to 30s"},
        {"replica_heartbeat", "", "write 100ms to 1min"},
        {"replica_record_bytes_max", "16M", "write 64k to 15M"},
        {"replica_record_bytes_max", "8Q", "write 64k to 15M"},
        {"replica_partitions", "0", "write 1 to 1000"},
        {"replica_partitions", "8 ", "write 1 to 1000"},
        {"replica_apply_workers", "two", "write 1 to 64"},
        {"replica_key_file", "replica.keys", "write a path that begins with /"},
        {"replica_key_file", "", "write 1 to 4096 characters"},
        {"replica_on_outage", "degrade", "`degrade` is not there yet; write `fail`"},
        {"replica_snapshot_rate", "99", "write 0, or at least 100"},
        {"replica_on_outage", "panic", "write `fail`"},
        {"replica_admin", "postmaster", "write one mail address, or nothing"},
        {"replica_admin", "a@b, c@d", "write one mail address, or nothing"},
        {"replica_brokers", "kafka1", "write host:port, several with commas between them"},
        {"replica_brokers", "kafka1:9092,,", "write host:port, several with commas between them"},
        {"replica_brokers", "kafka1:port", "write host:port, several with commas between them"},
        {"replica_brokers", ":9092", "write host:port, several with commas between them"},
        {"replica_mailstore", "store one", "write this host's full name, of letters, digits, dots and hyphens"},
        {"replica_address", "10.0.0.1/24", "write a host or an address, without a port"},
        {"replica_agent_socket", "/run/replica", "write the name of a listener of service agentd, without a path"},
    };
    for (const auto &row : table)
        EXPECT_EQ(refusal({{row.name, row.value}}), row.name + " = " + row.value + ": " + row.message);
}

TEST(Settings, MoreBrokersInSyncThanThereAreIsRefused) {
    EXPECT_EQ(refusal({{"replica_replication_factor", "1"}}),
              "replica_min_insync = 2: write at most replica_replication_factor, which is 1");
    EXPECT_EQ(refusal({{"replica_replication_factor", "1"}, {"replica_min_insync", "1"}}), "accepted");
    EXPECT_EQ(refusal({{"cbox_body_wait", "0"}}), "accepted") << "zero needs no unit";
}

TEST(Settings, AnAgentNeedsBrokersAndAName) {
    auto brokers = parse_settings({{"replica_brokers", "kafka1:9092"}});
    auto name = parse_settings({}, "store1.example.com");
    auto both = parse_settings({{"replica_brokers", "kafka1:9092"}}, "store1.example.com");
    EXPECT_EQ(check_for_agent(*brokers).error().message, "replica_mailstore is empty: write this host's full name");
    EXPECT_EQ(check_for_agent(*name).error().message, "replica_brokers is empty: name the Kafka brokers as host:port");
    EXPECT_TRUE(check_for_agent(*both));
}

TEST(SettingsTable, EachRowIsOneSettingWithASentence) {
    std::set<std::string> names;
    for (const SettingRow &row : setting_rows()) {
        EXPECT_TRUE(names.insert(row.name).second) << row.name;
        EXPECT_TRUE(std::string_view(row.sentence).ends_with('.')) << row.name;
        EXPECT_LE(row.least, row.most) << row.name;
        EXPECT_EQ(refusal({{row.name, row.default_text}}), "accepted");
    }
}

TEST(SettingsTable, ConfDShowsEachAtItsDefault) {
    EXPECT_NE(read("conf.d/90-replica.conf").find("\n" + settings_as_conf("replica_")), std::string::npos)
        << "conf.d/90-replica.conf must hold just this:\n"
        << settings_as_conf("replica_");
    EXPECT_NE(read("conf.d/10-cbox.conf.example").find("\n" + settings_as_conf("cbox_")), std::string::npos)
        << "conf.d/10-cbox.conf.example must hold just this:\n"
        << settings_as_conf("cbox_");
}

TEST(SettingsTable, TheDocsShowEach) {
    EXPECT_NE(read("docs/operating/settings.md").find("\n" + settings_as_markdown()), std::string::npos)
        << "docs/operating/settings.md must hold just this:\n"
        << settings_as_markdown();
}

} // namespace
} // namespace replica
