// The agent and the mail processes on its socket.
#include "agentd/io/agent.hpp"
#include <algorithm>

namespace replica {

void Agent::open_client(std::shared_ptr<Connection> connection) {
    ClientId id = next_client_++;
    auto &client = clients_[id] = std::make_unique<Client>();
    client->connection = connection;
    auto received = [this, id](std::string_view bytes) {
        auto found = clients_.find(id);
        if (found == clients_.end()) return;
        found->second->frames.feed(bytes);
        for (;;) {
            auto current = clients_.find(id);
            if (current == clients_.end()) return;
            auto next = current->second->frames.next();
            if (next && !*next) return;
            auto frame = next ? decode_client_frame(**next) : Result<ClientFrame>(next.error());
            if (!frame) {
                log_(Level::error, "a mail process was disconnected: " + frame.error().message);
                return current->second->connection->close();
            }
            client_frame(id, *current->second, *frame);
        }
    };
    connection->start({received, [this, id] { client_closed(id); }});
}

void Agent::client_frame(ClientId id, Client &client, const ClientFrame &frame) {
    auto now = std::chrono::steady_clock::now();
    if (auto *hello = std::get_if<Hello>(&frame)) {
        client.is_worker = hello->service == "replica-apply";
        if (hello->version == agent_protocol_version) return;
        log_(Level::error, hello->service + " speaks version " + std::to_string(hello->version) +
                               " of the agent's protocol: restart Dovecot after an upgrade");
        return client.connection->close();
    }
    if (auto *done = std::get_if<Done>(&frame)) {
        auto found = client.unconfirmed.find(done->request);
        if (found == client.unconfirmed.end()) return;
        auto *account = find(found->second);
        client.unconfirmed.erase(found);
        if (account && account->ship()) account->ship()->done(now, id, *done), awake(account->key());
        return;
    }
    bool is_clear = std::holds_alternative<Clear>(frame);
    if (is_clear && client.is_worker) return send(id, Answer{std::get<Clear>(frame).request, Reason::none, {}});
    auto &name = is_clear ? std::get<Clear>(frame).account : std::get<ChangeFrame>(frame).account;
    auto key = options_.ring.account_key(name);
    auto *account = find(key);
    if (!account || !account->ship()) {
        bool ours = !control_is_read_ || (account && account->decided().source == store());
        if (ours) return refuse(id, frame, Reason::unavailable, "the agent is still reading the log");
        return refuse(id, frame, Reason::not_source, "this store is not the source of " + name);
    }
    if (account->control_dir().uid.empty())
        return refuse(id, frame, Reason::unavailable, "the agent does not know yet whose the mail is");
    if (!may_speak(client, *account))
        return refuse(id, frame, Reason::protocol, "the account belongs to another system user");
    client.accounts.insert(key);
    awake(key);
    if (is_clear) return account->ship()->clear(now, id, std::get<Clear>(frame));
    client.unconfirmed[std::get<ChangeFrame>(frame).request] = key;
    account->ship()->change(now, id, std::get<ChangeFrame>(frame));
}

// The socket is open to every user of the system: who connects may change only the mail that is his by the file system,
// too.
bool Agent::may_speak(const Client &client, const Account &account) {
    auto peer = std::to_string(client.connection->peer_uid());
    auto &owner = account.control_dir().uid;
    if (peer == "0" || peer == owner) return true;
    if (warned_.insert("uid/" + peer + "/" + account.name()).second)
        log_(Level::error, "account=" + account.name() + ": a process of uid " + peer +
                               " asked for changes to it and was refused: its mail belongs to uid " + owner);
    return false;
}

void Agent::refuse(ClientId id, const ClientFrame &frame, Reason reason, const std::string &text) {
    if (auto *clear = std::get_if<Clear>(&frame)) return send(id, Answer{clear->request, reason, text});
    send(id, Refused{std::get<ChangeFrame>(frame).request, reason, text});
}

void Agent::send(ClientId id, const AgentFrame &frame) {
    auto found = clients_.find(id);
    if (found == clients_.end()) return;
    if (auto *refused = std::get_if<Refused>(&frame)) found->second->unconfirmed.erase(refused->request);
    found->second->connection->send(encode_frame(frame));
}

void Agent::client_closed(ClientId id) {
    auto found = clients_.find(id);
    if (found == clients_.end()) return;
    auto accounts = std::move(found->second->accounts);
    clients_.erase(found);
    auto now = std::chrono::steady_clock::now();
    for (auto &key : accounts)
        if (auto *account = find(key); account && account->ship()) account->ship()->client_gone(now, id), awake(key);
}

// A reload: what was read is settled and answered, what was not read goes to the next agent, to which the clients
// connect anew.
void Agent::finish_shut_down() {
    auto now = std::chrono::steady_clock::now();
    for (auto &[id, client] : clients_)
        client->connection->pause(true);
    produce_again(now);
    bool answered = std::all_of(accounts_.begin(), accounts_.end(),
                                [](auto &a) { return !a.second->ship() || a.second->ship()->answered(); });
    if (!answered && now < shut_down_at_) return; // the next tick looks again
    for (auto &connection : std::exchange(held_, {}))
        connection->close();
    for (auto &[id, client] : clients_)
        client->connection->close_when_sent();
    timers_.clear();
    store_control_dirs();
    loop_.after(std::chrono::milliseconds(50), [this] { loop_.stop(); });
}

// What the workers told of the accounts needs no flush: with it, the next agent serves without asking again.
void Agent::store_control_dirs() {
    std::vector<State::Write> writes;
    for (auto &[key, account] : accounts_) {
        auto last = stored_.find(key);
        auto kept =
            last == stored_.end() ? Result<StoredAccount>(StoredAccount{}) : decode<StoredAccount>(last->second);
        bool has_role = account->control_dir().role != Role::none;
        if (!has_role || !kept || kept->control_dir == account->control_dir()) continue;
        kept->control_dir = account->control_dir();
        writes.push_back({account_fact(key), encode(*kept)});
    }
    if (writes.empty()) return;
    if (auto written = state_->write(writes); !written) log_(Level::error, written.error().message);
}

} // namespace replica
