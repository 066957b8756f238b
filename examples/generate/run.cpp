/// What generate does once its command line is text. Compiled for each instruction set of the program.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "aviary/io/checkpoint_file.hpp"
#include "aviary/io/output_file.hpp"
#include "aviary/io/vocabulary.hpp"
#include "aviary/simd/dispatch.hpp"
#include "generate/answers.hpp"
#include "generate/console.hpp"
#include "generate/request.hpp"
#include "generate/session.hpp"
#include "models/any.hpp"
#include "models/conversation.hpp"
#include "models/initial_state.hpp"
#include "models/inputs.hpp"
#include "models/interruption.hpp"
#include "models/names.hpp"
#include "models/progress.hpp"

namespace {

using aviary::Index;
using aviary::TokenId;
using generate::Request;
using generate::UsageError;

/// A model, and the vocabulary that its file has, if it has one.
struct LoadedWithWords {
  models::Loaded loaded;
  std::optional<aviary::Vocabulary> words;
};

LoadedWithWords load(Request const& r) {
  aviary::TensorFile file = models::open_model(r.model);
  file.verify();  // a damaged model would talk, too
  if (r.initial_state) {
    aviary::TensorFile states = aviary::open_checkpoint(*r.initial_state);
    states.verify();
    file = models::with_initial_states(std::move(file), std::move(states));
  }
  return {models::load_any<float>(file, r.load), file.vocabulary()};
}

void mention_unused(std::vector<std::string> const& names) {
  if (names.empty()) return;
  std::cerr << "generate: note: " << names.size() << " tensors of the file are not used, the first is "
            << aviary::in_quotes(names.front()) << '\n';
}

/// The text of the model's tokens, which must have those of the vocabulary that the request names, or else that the model's
/// file has.
models::Text text_of(Request const& r, Index vocab_size, std::optional<aviary::Vocabulary> words) {
  if (r.vocab) words = aviary::Vocabulary::read_world(*r.vocab);
  try {
    return models::Text(vocab_size, std::move(words));
  } catch (std::invalid_argument const& error) {
    throw std::runtime_error((r.vocab ? *r.vocab : r.model).string() + ": " + error.what());
  }
}

/// The bytes of a file, or of standard input. Throws std::runtime_error if there are more than a prompt may have.
std::string content_of(std::filesystem::path const& path) {
  struct Close {
    void operator()(std::FILE* file) const noexcept { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> const named(path == "-" ? nullptr : std::fopen(path.string().c_str(), "rb"));
  if (path != "-" && !named) aviary::throw_errno(errno, path, "open");
  std::FILE* const file = named ? named.get() : stdin;
  std::string text;
  char block[1 << 14];
  while (std::size_t const n = std::fread(block, 1, sizeof(block), file)) {
    text.append(block, n);
    if (text.size() > generate::prompt_limit)
      throw std::runtime_error(path.string() + ": expected a prompt of at most " +
                               std::to_string(generate::prompt_limit) + " bytes, found more");
  }
  if (std::ferror(file)) aviary::throw_errno(errno, path, "read");
  return text;
}

/// What the call throws as std::invalid_argument becomes an error of type E that names what is to blame.
template <class E, class Call> auto blaming(std::string const& what, Call&& call) {
  try {
    return call();
  } catch (std::invalid_argument const& error) {
    throw E(what + ": " + error.what());
  }
}

std::vector<TokenId> prompt_of(Request const& r, models::Text const& text) {
  blaming<UsageError>("--tokens", [&] { text.check(r.tokens); });
  char const* const option = r.prompt ? "--prompt" : r.prompt_file ? "--prompt-file" : nullptr;
  if (option == nullptr) return r.tokens;
  if (text.is_ids())
    throw UsageError(std::string(option) + ": expected --vocab or --tokens, as the model's vocabulary has " +
                     std::to_string(text.vocab_size()) + " tokens and not 256 bytes");
  if (r.prompt) return blaming<UsageError>(option, [&] { return text.tokens(*r.prompt); });
  return blaming<std::runtime_error>(r.prompt_file->string(), [&] { return text.tokens(content_of(*r.prompt_file)); });
}

void print_logits(std::span<float const> logits) {
  errno = 0;
  for (float const logit : logits) std::printf("%.9g\n", static_cast<double>(logit));
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) generate::throw_output_failed();
}

/// What must stay as it is, whatever the program writes.
models::Inputs inputs_of(Request const& r) {
  models::Inputs inputs;
  for (std::filesystem::path const& file : aviary::checkpoint_files(r.model)) inputs.add("the file of --model", file);
  if (r.vocab) inputs.add("the file of --vocab", *r.vocab);
  if (r.initial_state) inputs.add("the file of --initial-state", *r.initial_state);
  if (r.prompt_file && *r.prompt_file != "-") inputs.add("the file of --prompt-file", *r.prompt_file);
  inputs.add("standard input", "/dev/stdin");
  inputs.add("standard output", "/dev/stdout");
  inputs.add("standard error", "/dev/stderr");
  return inputs;
}

/// Does what the request asks for.
void talk(Request const& r, models::Conversation& conversation, generate::Session& session,
          std::span<TokenId const> prompt) {
  if (!r.interactive || !prompt.empty()) session.read(prompt);
  if (r.logits)
    print_logits(conversation.logits());
  else if (r.interactive)
    session.interact(std::cin, models::is_terminal(0));
  else
    session.reply();
}
/// The same, and saves the context, if it is not an error of the model that ends it.
void talk_and_save(Request const& r, models::Conversation& conversation, generate::Session& session,
                   std::span<TokenId const> prompt) {
  models::Interruption const waits;
  try {
    talk(r, conversation, session, prompt);
  } catch (models::Interrupted const&) {
    conversation.save(*r.save_state);
    throw;
  } catch (generate::OutputFailed const&) {
    conversation.save(*r.save_state);
    throw;
  }
  conversation.save(*r.save_state);
  models::Interruption::check();
}

/// Replies to many prompts, from a saved context if there is one. Throws std::runtime_error at the end if some failed.
void answer(Request const& r, std::shared_ptr<models::Model const> const& model, models::Text text) {
  generate::PromptLines prompts(*r.prompts);
  models::Context first = model->empty_context();
  if (r.load_state) model->load(first, *r.load_state);
  models::Batch batch(model, std::move(text), r.reply, r.length, r.batch, std::move(first));
  generate::Answers answers(prompts, batch);
  generate::Stopwatch const time(r.stats);
  Index const failed = answers.run();
  time.stop("read", answers.tokens_read());
  time.stop("made", answers.tokens_made());
  if (failed > 0)
    throw std::runtime_error(std::to_string(failed) + " of " + std::to_string(answers.prompts()) +
                             " prompts failed, see their lines");
}

void run(Request const& r) {
  models::Inputs const inputs = inputs_of(r);
  if (r.save_state) {  // better known before all the work
    inputs.check_target(*r.save_state, "to save the context in");
    aviary::OutputFile const writable(*r.save_state);
  }
  auto [loaded, words] = load(r);
  mention_unused(loaded.unused);
  Index const vocab_size = loaded.model->vocab_size();
  models::Text text = text_of(r, vocab_size, std::move(words));
  blaming<UsageError>("--stop", [&] { text.check(r.reply.stop_tokens); });
  if (text.is_ids() && !r.reply.stop_texts.empty())
    throw UsageError("--stop-text: expected --vocab or --stop, as the model's vocabulary has " +
                     std::to_string(vocab_size) + " tokens and not 256 bytes");
  if (r.prompts) return answer(r, loaded.model, std::move(text));
  std::vector<TokenId> const prompt = prompt_of(r, text);
  models::Reader reader(loaded.model);
  models::Conversation conversation(reader, std::move(text), r.reply);
  if (r.load_state) conversation.load(*r.load_state);

  generate::Session session(conversation, inputs, r.length, r.stats);
  r.save_state ? talk_and_save(r, conversation, session, prompt) : talk(r, conversation, session, prompt);
}

/// Complains; returns the status.
int fail(char const* what, int status) {
  generate::complain(what);
  return status;
}

/// Does what the arguments ask for; returns the exit status.
int run_program(generate::Arguments const& arguments) {
  try {
    run(generate::request_of(arguments));
    return 0;
  } catch (models::Interrupted const& by) {
    std::raise(by.signal);  // as it would have ended without a file to save
    return 128 + by.signal;
  } catch (UsageError const& error) {
    return fail(error.what(), 2);
  } catch (std::exception const& error) {
    return fail(error.what(), 1);
  }
}

}  // namespace

AVIARY_ENTRIES(generate::Program){.run = run_program};
