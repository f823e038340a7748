#include "lib/settings/settings.hpp"
#include <algorithm>
#include <array>

namespace replica {
namespace {

constexpr std::string_view letters_and_digits = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

bool consists_of(std::string_view text, std::string_view more) {
    return std::all_of(text.begin(), text.end(),
                       [&](char c) { return letters_and_digits.find(c) != text.npos || more.find(c) != text.npos; });
}

// Part of topic names, so Kafka's alphabet holds.
const char *host_name_problem(std::string_view text) {
    return consists_of(text, ".-_") ? nullptr : "write this host's full name, of letters, digits, dots and hyphens";
}

const char *address_problem(std::string_view text) {
    return consists_of(text, ".-_:") ? nullptr : "write a host or an address, without a port";
}

const char *brokers_problem(std::string_view text) {
    constexpr const char *remedy = "write host:port, several with commas between them";
    while (!text.empty()) {
        std::string_view broker = text.substr(0, text.find(','));
        text.remove_prefix(std::min(broker.size() + 1, text.size()));
        broker = broker.substr(std::min(broker.find_first_not_of(' '), broker.size()));
        size_t colon = broker.rfind(':');
        if (colon == 0 || colon >= broker.size() - 1) return remedy;
        std::string_view port = broker.substr(colon + 1);
        if (port.find_first_not_of("0123456789") != port.npos || port.size() > 5) return remedy;
    }
    return nullptr;
}

const char *outage_problem(std::string_view text) {
    if (text == "degrade") return "`degrade` is not there yet; write `fail`";
    return text == "fail" ? nullptr : "write `fail`";
}

const char *admin_problem(std::string_view text) {
    bool address =
        text.find('@') != 0 && text.find('@') < text.size() - 1 && text.find_first_of(" \t\r\n<>") == text.npos;
    return text.empty() || address ? nullptr : "write one mail address, or nothing";
}

// A destination gives up a snapshot of which it hears nothing for a minute, and hears of a thousand mails at a time.
const char *snapshot_rate_problem(std::string_view text) {
    bool too_slow = text != "0" && text.size() < 3;
    return too_slow ? "write 0, or at least 100" : nullptr;
}

const char *socket_problem(std::string_view text) {
    return !text.empty() && consists_of(text, "-_.") ? nullptr
                                                     : "write the name of a listener of service agentd, without a path";
}

constexpr auto text = SettingType::text;
constexpr auto path = SettingType::path;
constexpr auto number = SettingType::number;
constexpr auto duration = SettingType::duration;
constexpr auto size = SettingType::size;
constexpr auto reload = SettingTakes::reload;
constexpr auto restart = SettingTakes::restart;
using S = Settings;

constexpr std::array rows = {
    SettingRow{"replica_mailstore", text, "", 0, 200, restart,
               "The full name of this store, by which all others know it; empty: the host's name.", &S::mailstore,
               host_name_problem},
    SettingRow{"replica_address", text, "", 0, 200, reload,
               "Where proxies reach this store, a host or an address; empty: replica_mailstore.", &S::address,
               address_problem},
    SettingRow{"replica_brokers", text, "", 0, 4096, reload,
               "The Kafka brokers to begin with, as host:port, several with commas between them.", &S::brokers,
               brokers_problem},
    SettingRow{
        "replica_kafka_config", path, "", 0, 4096, reload,
        "A file of librdkafka properties (TLS, passwords), of mode 0600; what the agent relies on is refused there.",
        &S::kafka_config},
    SettingRow{"replica_partitions", number, "8", 1, 1000, reload,
               "How many partitions the topic of this store's changes is created with.", &S::partitions},
    SettingRow{"replica_replication_factor", number, "3", 1, 15, reload,
               "On how many brokers each topic is kept; 1 is for a trial on a single broker.", &S::replication_factor},
    SettingRow{"replica_min_insync", number, "2", 1, 15, reload,
               "How many brokers must have a change before it is acknowledged.", &S::min_insync},
    SettingRow{"replica_key_file", path, "/etc/dovecot/replica.keys", 1, 4096, reload,
               "The keys that seal what the queue carries, the same file on every store, of mode 0600.", &S::key_file},
    SettingRow{"replica_state_dir", path, "/var/lib/dovecot-replica", 1, 4096, restart,
               "The directory of the agent's own state, on a local disk.", &S::state_dir},
    SettingRow{"replica_ack_timeout", duration, "5s", 100, 30000, reload,
               "How long a change waits for its acknowledgement by the log before the client is told to try again.",
               &S::ack_timeout},
    SettingRow{"replica_heartbeat", duration, "1s", 100, 60000, reload, "How often this store says that it is alive.",
               &S::heartbeat},
    SettingRow{"replica_record_bytes_max", size, "8M", 64 << 10, 15 << 20, reload,
               "The largest record of the log; a change that does not fit is refused.", &S::record_bytes_max},
    SettingRow{"replica_on_outage", text, "fail", 1, 16, reload,
               "What a change meets while the log cannot take it: `fail` refuses it.", &S::on_outage, outage_problem},
    SettingRow{"replica_admin", text, "", 0, 320, reload,
               "Who gets a mail when a replica or a promotion is complete; empty: nobody.", &S::admin, admin_problem},
    SettingRow{"replica_apply_workers", number, "2", 1, 64, reload, "How many processes apply changes at once.",
               &S::apply_workers},
    SettingRow{"replica_snapshot_rate", number, "0", 0, 1000000, reload,
               "How many mails a second snapshots may read; 0: as many as they can.", &S::snapshot_rate,
               snapshot_rate_problem},
    SettingRow{"replica_agent_socket", text, "replica", 1, 64, reload,
               "The listener in Dovecot's base_dir where mail processes find the agent.", &S::agent_socket,
               socket_problem},
    SettingRow{"replica_blob_grace", duration, "168h", 0, uint64_t(8760) * 3600000, reload,
               "How long a body that no mail needs is kept before it is condemned, and again before it is deleted.",
               &S::blob_grace},
    SettingRow{"cbox_blobs", text, "posix:prefix=%h/blobs/", 1, 4096, reload,
               "Where bodies are kept: a lib-fs driver and its arguments, the same on all stores that share accounts.",
               &S::cbox_blobs},
    SettingRow{"cbox_body_wait", duration, "5s", 0, 60000, reload,
               "How long one command waits, in all, for bodies that are not there yet, before it names them.",
               &S::cbox_body_wait},
    SettingRow{
        "cbox_cache", path, "", 0, 4096, reload,
        "A local directory that keeps bodies which were read, for a store of bodies that is far away; empty: none.",
        &S::cbox_cache},
    SettingRow{"cbox_cache_size", size, "1G", 1 << 20, uint64_t(1) << 44, reload,
               "How much that directory may hold; a body larger than 1/256 of it is not kept.", &S::cbox_cache_size},
};

} // namespace

std::span<const SettingRow> setting_rows() { return rows; }

} // namespace replica
