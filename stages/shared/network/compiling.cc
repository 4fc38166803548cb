// Stands between std::cerr and its buffer, and turns one line of Jittor's into a bar with a name.
// What a compiler's wrapper says as it fails can be kept aside: Jittor raises an error then.

#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <mutex>
#include <streambuf>
#include <string>
#include <thread>

namespace {

const char kStart[] = "Compiling Operators(";                 // then 3/12) used: 4.5s eta: 13.4s \r
const char kFailed[] = "Traceback (most recent call last):";  // all of it comes in one piece
const int kWidth = 30;

class Bar : public std::streambuf {
   public:
    explicit Bar(std::streambuf* below) : below_(below), terminal_(isatty(STDERR_FILENO)) {}

    void keep() { keeps_ = true; }

    const char* kept() {
        const std::lock_guard<std::mutex> guard(mutex_);
        return kept_.c_str();
    }

   protected:
    // Jittor writes the line in pieces. All that is not of it goes on as it comes, so that the last
    // words before a crash are not held back.
    std::streamsize xsputn(const char* text, std::streamsize size) override {
        const std::lock_guard<std::mutex> guard(mutex_);
        const std::string piece(text, size);
        if (keeps_ && piece.find(kFailed) != std::string::npos) {
            kept_ += piece;
            return size;
        }
        if (line_.empty() && piece == kStart) writer_ = std::this_thread::get_id();
        const bool mine = writer_ == std::this_thread::get_id();
        if (!mine || (line_.empty() && piece != kStart)) return below_->sputn(text, size);
        line_ += piece;
        if (piece.back() == '\r') {
            draw();
            line_.clear();
        }
        return size;
    }

    int overflow(int letter) override {
        const char piece = static_cast<char>(letter);
        return letter == EOF || xsputn(&piece, 1) == 1 ? 0 : EOF;
    }

    int sync() override { return below_->pubsync(); }

   private:
    void draw() {
        int done = 0, all = 0;
        double used = 0, left = 0;
        const char format[] = "Compiling Operators(%d/%d) used: %lfs eta: %lfs";
        if (std::sscanf(line_.c_str(), format, &done, &all, &used, &left) != 4 || all < 1) return;
        char said[160];
        if (terminal_) {
            const std::string full(kWidth * done / all, '#'), rest(kWidth - full.size(), '-');
            std::snprintf(said, sizeof said,
                          "\r\033[KCompiling kernels [%s%s] %d/%d, %.0f s so far, %.0f s left",
                          full.c_str(), rest.c_str(), done, all, used, left);
        } else {
            if (done < all) return;
            std::snprintf(said, sizeof said, "%d kernels were compiled in %.0f s", all, used);
        }
        below_->sputn(said, std::char_traits<char>::length(said));
        below_->pubsync();
    }

    std::streambuf* const below_;
    const bool terminal_;
    std::mutex mutex_;
    std::thread::id writer_;
    std::string line_;
    bool keeps_ = false;
    std::string kept_;
};

Bar* bar = nullptr;  // never freed: std::cerr is used until the very end of the process

}  // namespace

extern "C" void show_bar() {
    if (bar == nullptr) bar = new Bar(std::cerr.rdbuf());
    std::cerr.rdbuf(bar);
}

// Both after show_bar. What kept() gives is good until a compiler fails again.
extern "C" void keep() { bar->keep(); }
extern "C" const char* kept() { return bar->kept(); }
