#include "agentd/io/dict_socket.hpp"

namespace replica {

namespace {
constexpr size_t line_bytes_max = 8192;

// Dovecot's line escapes: \001 then 0, 1, t, r, n or l.
std::string unescaped(std::string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size(); i++) {
        if (text[i] != '\1' || i + 1 == text.size()) {
            out += text[i];
            continue;
        }
        switch (text[++i]) {
        case '0': out += '\0'; break;
        case '1': out += '\1'; break;
        case 't': out += '\t'; break;
        case 'r': out += '\r'; break;
        case 'n': out += '\n'; break;
        default: out += text[i];
        }
    }
    return out;
}

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
    auto buffer = std::make_shared<std::string>();
    std::weak_ptr<Connection> weak = connection;
    connection->start({[weak, buffer, &control](std::string_view bytes) {
                           buffer->append(bytes);
                           auto open = weak.lock();
                           for (size_t end; open && (end = buffer->find('\n')) != buffer->npos; buffer->erase(0, end + 1)) {
                               std::string line = buffer->substr(0, end);
                               if (line.empty() || line[0] == 'H') continue;
                               if (line[0] != 'L') return open->close();
                               open->send(lookup(control, unescaped(std::string_view(line).substr(1, line.find('\t') - 1))));
                           }
                           if (open && buffer->size() > line_bytes_max) open->close();
                       },
                       [connection] {}});
}

} // namespace replica
