// Writes into an account's log what its source did not: plant KEYFILE BROKERS TOPIC ACCOUNT VERB [ARGUMENT]
//   keyword WORD   a valid record with the next number: the mail that was appended last gets the keyword WORD
//   garbage        what nobody with the keys has made: noise, halves, tampered copies, and an old record once more
//   show           nothing; prints the account's records
// Prints what it did, a line each.
#include "agentd/kafka/kafka.hpp"
#include "lib/seal/envelope.hpp"
#include "lib/wire/record.hpp"
#include <cstdio>
#include <fstream>
#include <iterator>
#include <poll.h>

using namespace replica;

namespace {

constexpr auto limit = std::chrono::seconds(10);
constexpr int partitions_max = 1000;

[[noreturn]] void die(const std::string &why) {
    fprintf(stderr, "plant: %s\n", why.c_str());
    exit(1);
}
template <class T> T must(Result<T> result) {
    if (!result) die(result.error().message);
    return std::move(*result);
}

struct Log {
    KeyRing ring;
    AccountKey account;
    std::unique_ptr<Kafka> kafka;
    Place place; // where the account's last record stands
    std::vector<Message> messages;
    Number last;
    std::optional<Change> last_append; // with its record's number as `previous`
    std::optional<MailboxChange> appended;
    size_t delivered = 0;
    bool list = false;

    void take(Message &&message) {
        auto header = peek(message.value);
        if (!header || header->account != account) return;
        auto opened = open(ring, message.value);
        auto record = opened ? decode<Record>(opened->plaintext) : Result<Record>(opened.error());
        if (!record) return;
        if (record->kind == RecordKind::changes && header->number > last) last = header->number;
        for (auto &change : record->changes) {
            if (change.kind != ChangeKind::mailbox) continue;
            auto payload = decode<MailboxChange>(change.payload);
            bool same = last_append && last_append->object == change.object;
            if (!payload || (payload->appends.empty() && !same)) continue;
            last_append = change;
            last_append->previous = header->number;
            if (same && payload->appends.empty()) payload->appends = appended->appends;
            appended = std::move(*payload);
        }
        place = message.place;
        if (list) show(message, opened->header, *record);
        messages.push_back(std::move(message));
    }
    static void show(const Message &message, const EnvelopeHeader &header, const Record &record) {
        static constexpr const char *kinds[] = {"?", "open", "changes", "fence", "bulk"};
        printf("%s/%d %lld %s %s %s", message.place.topic.c_str(), message.place.partition,
               static_cast<long long>(message.offset), kinds[static_cast<size_t>(record.kind)],
               to_string(header.number).c_str(), to_hex(header.session).c_str());
        if (record.open) printf(" previous %s", to_string(record.open->previous).c_str());
        for (auto &change : record.changes)
            printf(" %s from %s", to_hex(change.object.mailbox).c_str(), to_string(change.previous).c_str());
        printf("\n");
    }
    void wait_for(const std::function<bool()> &done) {
        auto ends = std::chrono::steady_clock::now() + limit;
        while (!done()) {
            if (std::chrono::steady_clock::now() > ends) die("the broker does not answer");
            pollfd wake{kafka->wake_fd(), POLLIN, 0};
            (void)::poll(&wake, 1, 50);
            kafka->poll();
        }
    }
    void read(const std::string &topic) {
        int64_t left = 0;
        auto found = must(kafka->describe_topic(topic, limit));
        std::map<Place, int64_t> ends;
        for (int32_t partition = 0; partition < std::min(found.partitions, partitions_max); partition++) {
            auto [first, end] = must(kafka->offsets({topic, partition}, limit));
            if (end == first) continue;
            ends[{topic, partition}] = end;
            left++;
            kafka->assign({topic, partition}, first);
        }
        on_message = [this, &left, &ends](Message &&m) {
            left -= m.offset + 1 == ends[m.place];
            take(std::move(m));
        };
        wait_for([&] { return left == 0; });
        on_message = [](Message &&) {};
        if (messages.empty()) die("the account has no record there");
    }
    void write(const std::string &value, const char *what) {
        size_t goal = delivered + 1;
        kafka->produce(place, account.view(), value, false, goal);
        wait_for([&] { return delivered >= goal; });
        printf("%s in %s/%d\n", what, place.topic.c_str(), place.partition);
    }
    std::function<void(Message &&)> on_message;
};

void plant_keyword(Log &log, const std::string &word) {
    if (!log.appended) die("no mail was appended yet");
    auto &before = *log.appended;
    MailboxChange change;
    change.base_modseq = before.modseq + !before.expunges.empty();
    change.modseq = change.base_modseq + 1;
    change.uid_validity = before.uid_validity;
    change.next_uid = before.next_uid;
    uint32_t uid = before.appends.back().uid;
    change.keywords.push_back({word, true, {{uid, uid}}});
    Change made = *log.last_append;
    made.payload = encode(change);
    Record record;
    record.changes.push_back(made);
    Number number{log.last.epoch, log.last.sequence + 1};
    EnvelopeHeader header{log.ring.active(), log.account, number, Session::from(random_bytes(8).data())};
    log.write(must(seal(log.ring, header, encode(record))), ("planted " + to_string(number)).c_str());
}

void plant_garbage(Log &log) {
    const std::string last = log.messages.back().value;
    log.write("", "an empty value");
    log.write(random_bytes(300), "noise");
    log.write(last.substr(0, last.size() / 2), "half a record");
    for (size_t at : {last.size() - 1, last.size() / 2, size_t{60}}) {
        std::string tampered = last;
        tampered[std::min(at, last.size() - 1)] ^= 1;
        log.write(tampered, "a tampered record");
    }
    log.write(log.messages.front().value, "the first record once more");
    log.write(last, "the last record once more");
}

} // namespace

int main(int argc, char **argv) {
    if (argc < 6) die("KEYFILE BROKERS TOPIC ACCOUNT VERB [ARGUMENT]");
    std::ifstream file(argv[1], std::ios::binary);
    Log log;
    log.ring = must(KeyRing::parse(std::string(std::istreambuf_iterator<char>(file), {})));
    log.account = log.ring.account_key(argv[4]);
    Kafka::Handlers handlers;
    handlers.message = [&](Message &&m) { log.on_message(std::move(m)); };
    handlers.place_error = [](const PlaceError &e) { die(e.text); };
    handlers.outcome = [&](const Outcome &o) { o.delivered ? void(log.delivered++) : die(o.text); };
    log.kafka = must(Kafka::create({argv[2], {}, 9u << 20}, std::move(handlers)));
    std::string verb = argv[5];
    log.list = verb == "show";
    log.read(argv[3]);
    if (verb == "keyword" && argc == 7)
        plant_keyword(log, argv[6]);
    else if (verb == "garbage")
        plant_garbage(log);
    else if (verb != "show")
        die("what is " + verb + "?");
    printf("%zu records, last %s\n", log.messages.size(), to_string(log.last).c_str());
}
