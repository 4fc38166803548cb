#include "stages/shared/network/kernels/loss.h"

#include "tests/kernels/check.h"

using check::Floats;
using check::unwritten;
using kernels::CrossEntropy;

// `step` moves from image to image through the labels; beyond C - 1 they are no class.
void compare(long N, long C, float range, int step, double smoothing) {
    check::shape("N %ld C %ld logits to %g labels by %d smoothing %g", N, C, range, step,
                 smoothing);
    const auto logits = check::numbers(N * C, -range, range);
    std::vector<int> labels(N);
    for (long n = 0; n < N; n++) labels[n] = (int)(n * step % (C + (step > 1)) - (step > 2));

    auto loss = unwritten(1), fast_loss = loss, p = unwritten(N * C), fast_p = p;
    CrossEntropy::plain_forward(N, C, smoothing, logits.data(), labels.data(), loss.data(),
                                p.data());
    CrossEntropy::forward(N, C, smoothing, logits.data(), labels.data(), fast_loss.data(),
                          fast_p.data());
    check::same("loss", loss, fast_loss);
    check::same("probabilities", p, fast_p);

    const Floats dloss = {3};
    auto d = unwritten(N * C), fast_d = d;
    CrossEntropy::plain_grad(N, C, smoothing, p.data(), labels.data(), dloss.data(), d.data());
    CrossEntropy::grad(N, C, smoothing, p.data(), labels.data(), dloss.data(), fast_d.data());
    check::same("dlogits", d, fast_d);
}

int main() {
    compare(64, 10, 1, 1, 0);
    compare(1, 1, 1, 1, 0.25);
    compare(5, 47, 90, 1, 0.1);  // far enough apart to overflow a bare exponential
    compare(9, 4, 5, 2, 0);      // a label of C
    compare(9, 4, 5, 3, 0.3);    // and of -1
    return check::result();
}
