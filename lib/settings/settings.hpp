// The settings of replica and cbox: one table, which feeds the parser, conf.d/ and docs/operating/settings.md.
// Fails: `invalid`, with the setting's name and what to write instead. Nothing here touches a file or the network.
#pragma once
#include "lib/base/result.hpp"
#include <chrono>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace replica {

struct Settings {
    std::string mailstore, address;
    std::string brokers; // host:port, comma-separated
    std::string kafka_config;
    uint64_t partitions, replication_factor, min_insync;
    std::string key_file;
    std::string state_dir;
    std::chrono::milliseconds ack_timeout, heartbeat;
    uint64_t record_bytes_max;
    std::string on_outage;
    std::string admin;
    uint64_t apply_workers;
    uint64_t snapshot_rate; // mails per second; 0 = as fast as it goes
    std::string agent_socket;
    std::string cbox_blobs;
    std::chrono::milliseconds cbox_body_wait;
    std::string cbox_cache;
    uint64_t cbox_cache_size;
    std::chrono::milliseconds blob_grace;
};

enum class SettingType : uint8_t {
    text,
    path,     // absolute, or empty
    number,   //
    duration, // 100ms, 5s, 1min, 1h
    size,     // bytes, or with k, M, G
};
enum class SettingTakes : uint8_t {
    reload,  // a `doveadm reload` brings it into force
    restart, // stop Dovecot first
};

struct SettingRow {
    const char *name;
    SettingType type;
    const char *default_text;
    uint64_t least, most; // numbers as they are, milliseconds, bytes; texts: length
    SettingTakes takes;
    const char *sentence;
    std::variant<std::string Settings::*, uint64_t Settings::*, std::chrono::milliseconds Settings::*> member;
    const char *(*problem)(std::string_view text) = nullptr; // beyond type and range: what to write instead, or null
};

std::span<const SettingRow> setting_rows();

// `raw`: names and values as Dovecot has them; what begins with neither `replica_` nor is in the table is not ours and
// is passed over. What is not named has its default. `host_name` stands in for an empty replica_mailstore, and
// that for an empty replica_address.
Result<Settings> parse_settings(const std::map<std::string, std::string> &raw, std::string_view host_name = {});
// What an agent needs beyond that: the settings without a usable default are set.
Result<void> check_for_agent(const Settings &settings);

std::string settings_as_conf(std::string_view prefix); // a `plugin { }` block, each setting commented at its default
std::string settings_as_markdown();

} // namespace replica
