// One mail to the administrator, by Dovecot's own means: submission_host, else sendmail_path.
#include "agentd/apply/file.hpp"
#include "agentd/apply/worker.hpp"
#include <ctime>

namespace replica {

namespace {

std::string one_line(std::string text) {
    for (char &c : text)
        if (static_cast<unsigned char>(c) < ' ') c = ' ';
    return text;
}

std::string with_crlf(std::string_view text) {
    std::string lines;
    for (char c : text) {
        if (c == '\r') continue;
        if (c == '\n') lines += '\r';
        lines += c;
    }
    return lines;
}

std::string compose(const Notify &mail, const char *hostname) {
    string_t *subject = t_str_new(256);
    message_header_encode(one_line(mail.subject).c_str(), subject);
    std::string host(hostname);
    std::string message_id =
        std::to_string(time(nullptr)) + "." + std::to_string(getpid()) + "." + std::to_string(mail.id);
    return "Date: " + std::string(message_date_create(time(nullptr))) + "\r\nFrom: Active Replica <postmaster@" + host +
           ">\r\nTo: <" + one_line(mail.to) + ">\r\nSubject: " + str_c(subject) + "\r\nMessage-ID: <" + message_id +
           "@" + host +
           ">\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
           "Content-Transfer-Encoding: 8bit\r\n\r\n" +
           with_crlf(mail.text) + "\r\n";
}

// What keeps both ways shut, or empty.
std::string no_way(const struct smtp_submit_settings &set) {
    if (*set.submission_host != '\0') return {};
    std::string program = std::string(set.sendmail_path).substr(0, std::string_view(set.sendmail_path).find(' '));
    if (!program.empty() && ::access(program.c_str(), X_OK) == 0) return {};
    return "submission_host is empty and sendmail_path (" + program + ") cannot be run";
}

Result<void> submit(const struct smtp_submit_settings &set, const struct smtp_address &to, const std::string &message) {
    struct smtp_submit_input input = compat::submit_input();
    struct smtp_submit *submit = smtp_submit_init_simple(&input, &set, nullptr); // no sender: nothing comes back
    smtp_submit_add_rcpt(submit, &to);
    o_stream_nsend(smtp_submit_send(submit), message.data(), message.size());
    const char *error = "";
    int ret = smtp_submit_run(submit, &error);
    std::string text = error == nullptr ? "" : error;
    smtp_submit_deinit(&submit);
    if (ret > 0) return {};
    return Error{ret == 0 ? Code::denied : Code::invalid, "the mail was not taken: " + text};
}

} // namespace

Result<void> send_mail(struct mail_storage_service_ctx *ctx, const Notify &mail) {
    pool_t pool = pool_alloconly_create("replica notice", 4096);
    Result<void> sent;
    const char *error;
    struct smtp_address *to;
    const struct smtp_submit_settings *set = compat::submit_settings(ctx, pool, &error);
    if (set == nullptr)
        sent = Error{Code::invalid, error};
    else if (std::string problem = no_way(*set); !problem.empty())
        sent = Error{Code::invalid, problem};
    else if (smtp_address_parse_mailbox(pool, mail.to.c_str(), static_cast<enum smtp_address_parse_flags>(0), &to,
                                        &error) < 0)
        sent = Error{Code::invalid, "not a mail address: " + mail.to + ": " + error};
    else
        sent = submit(*set, *to, compose(mail, set->hostname));
    pool_unref(&pool);
    return sent;
}

} // namespace replica
