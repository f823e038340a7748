#include "agentd/io/dict_socket.hpp"
#include "agentd/io/lines.hpp"

namespace replica {

namespace {
constexpr size_t line_bytes_max = 8192;

std::string json_text(std::string_view text) {
    std::string out = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (static_cast<unsigned char>(c) >= 0x20) out += c;
    }
    return out + "\"";
}

std::string lookup(const Control &control, std::string_view path) {
    constexpr std::string_view passdb = "shared/passdb/";
    if (!path.starts_with(passdb)) return "N\n";
    auto *record = control.account(path.substr(passdb.size()));
    auto *store = record && record->state != AccountState::removed ? control.store(record->source) : nullptr;
    if (!store) return "N\n";
    return "O{\"proxy\":\"y\",\"nopassword\":\"y\",\"host\":" + json_text(store->heartbeat.address) + "}\n";
}
} // namespace

void serve_dict(std::shared_ptr<Connection> connection, const Control &control) {
    auto lines = std::make_shared<LineSplitter>(line_bytes_max);
    std::weak_ptr<Connection> weak = connection;
    auto received = [weak, lines, &control](std::string_view bytes) {
        auto open = weak.lock();
        if (!open) return;
        bool good = lines->feed(bytes, [&](std::string_view line) {
            if (line.starts_with('H')) return true;
            if (!line.starts_with('L')) return false;
            open->send(lookup(control, tab_fields(line.substr(1)).front()));
            return true;
        });
        if (!good) open->close();
    };
    connection->start({received, [connection] {}});
}

} // namespace replica
