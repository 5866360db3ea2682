#include <algorithm>

#include "check.h"
#include "fedagg/codec.h"
#include "fedagg/distill.h"

using namespace fedagg;

namespace {

struct Expected {
    double ce = 0, kl = 0;
    std::vector<double> gradient;
};

std::vector<double> log_softmax(const float* z, std::size_t classes, double temperature) {
    double maximum = -INFINITY, sum = 0;
    for (std::size_t c = 0; c < classes; ++c) maximum = std::max(maximum, static_cast<double>(z[c]) / temperature);
    for (std::size_t c = 0; c < classes; ++c) sum += std::exp(static_cast<double>(z[c]) / temperature - maximum);
    std::vector<double> result(classes);
    for (std::size_t c = 0; c < classes; ++c) {
        result[c] = static_cast<double>(z[c]) / temperature - maximum - std::log(sum);
    }
    return result;
}

Expected reference(const DistillInput<float>& in, const DistillOptions& o, const std::vector<double>& weights) {
    Expected e;
    e.gradient.assign(in.rows * in.classes, 0);
    double total = 0;
    for (const double weight : weights) total += weight;
    for (std::size_t n = 0; n < in.rows; ++n) {
        if (weights[n] == 0) continue;
        const double w = weights[n] / total;
        const float* const s = in.student + n * in.classes;
        const auto p = log_softmax(s, in.classes, 1), q = log_softmax(s, in.classes, o.temperature);
        const auto t = log_softmax(static_cast<const float*>(in.teacher.data) + n * in.classes, in.classes, o.teacher_temperature);
        const bool forward = o.divergence == Divergence::forward;
        const std::size_t y = static_cast<std::size_t>(in.labels[n]);
        double kl = 0;
        for (std::size_t c = 0; c < in.classes; ++c) {
            kl += forward ? std::exp(t[c]) * (t[c] - q[c]) : std::exp(q[c]) * (q[c] - t[c]);
        }
        e.ce -= w * p[y];
        e.kl += w * kl;
        for (std::size_t c = 0; c < in.classes; ++c) {
            const double dkl = forward ? std::exp(q[c]) - std::exp(t[c]) : std::exp(q[c]) * (q[c] - t[c] - kl);
            e.gradient[n * in.classes + c] =
                w * (o.ce_weight * (std::exp(p[c]) - (c == y ? 1 : 0)) + o.kl_weight / o.temperature * dkl);
        }
    }
    return e;
}

struct Batch {
    Batch(std::size_t n, std::size_t c)
        : student(check::normal(n * c, 1)), teacher(check::normal(n * c, 2)), labels(check::labels(n, c, 3)) {
        input.student = student.data();
        input.teacher = {teacher.data(), LogitType::f32, nullptr};
        input.labels = labels.data();
        input.rows = n;
        input.classes = c;
    }
    std::vector<float> student, teacher;
    std::vector<std::int64_t> labels;
    DistillInput<float> input;
};

void compare(const DistillInput<float>& input, const DistillOptions& options, const std::vector<double>& weights) {
    std::vector<float> gradient(input.rows * input.classes);
    const DistillLoss loss = distill_loss(input, options, gradient.data());
    const Expected expected = reference(input, options, weights);
    CHECK(check::close(loss.ce, expected.ce, 1e-7));
    CHECK(check::close(loss.kl, expected.kl, 1e-6));
    const double n = static_cast<double>(input.rows);
    for (std::size_t i = 0; i < gradient.size(); ++i) {
        CHECK(std::fabs(static_cast<double>(gradient[i]) - expected.gradient[i]) * n <= 2e-5);
    }
}

}  // namespace

CASE("every length around the vector widths") {
    for (const std::size_t c : std::initializer_list<std::size_t>{1, 2, 3, 4, 5, 8, 10, 15, 16, 17, 47, 48, 49, 64, 65, 127, 1030}) {
        for (const std::size_t n : std::initializer_list<std::size_t>{1, 3, 4, 7, 8, 9, 16, 33}) {
            const Batch batch(n, c);
            for (const Divergence divergence : {Divergence::forward, Divergence::reverse}) {
                for (const double temperature : {1.0, 3.0}) {
                    DistillOptions options;
                    options.kl_weight = 2;
                    options.temperature = temperature;
                    options.divergence = divergence;
                    compare(batch.input, options, std::vector<double>(n, 1.0));
                }
            }
        }
    }
}

CASE("starts between vectors") {
    for (const std::size_t c : std::initializer_list<std::size_t>{3, 10, 64, 130}) {
        const std::size_t n = 9;
        const auto student = check::normal(n * c + 1, 1), teacher = check::normal(n * c + 1, 2);
        const auto labels = check::labels(n, c, 3);
        DistillInput<float> input;
        input.student = student.data() + 1;
        input.teacher = {teacher.data() + 1, LogitType::f32, nullptr};
        input.labels = labels.data();
        input.rows = n;
        input.classes = c;
        DistillOptions options;
        options.kl_weight = 2;
        for (const Divergence divergence : {Divergence::forward, Divergence::reverse}) {
            options.divergence = divergence;
            compare(input, options, std::vector<double>(n, 1.0));
        }
    }
}

// docs/kernels.md, "NaN and infinities"
CASE("infinities, and classes without probability") {
    struct {
        float student, teacher;
        Divergence divergence;
        bool loss_is_nan, gradient_is_nan;
    } const rows[] = {  // 20: a class that has all the probability
        {INFINITY, 20, Divergence::forward, true, true},       {INFINITY, 20, Divergence::reverse, true, true},
        {20, INFINITY, Divergence::forward, true, true},       {20, INFINITY, Divergence::reverse, true, true},
        {-INFINITY, 20, Divergence::forward, false, false},    {-INFINITY, 20, Divergence::reverse, false, false},
        {20, -INFINITY, Divergence::forward, false, false},    {20, -INFINITY, Divergence::reverse, false, true},
        {-INFINITY, -INFINITY, Divergence::forward, false, false}, {-INFINITY, -INFINITY, Divergence::reverse, false, false}};
    for (const std::size_t c : std::initializer_list<std::size_t>{3, 20, 60}) {
        for (const auto& row : rows) {
            Batch batch(9, c);
            batch.student[4 * c + 1] = row.student;
            batch.teacher[4 * c + 1] = row.teacher;
            batch.input.labels = nullptr;
            DistillOptions options;
            options.ce_weight = 0;
            options.kl_weight = 1;
            options.temperature = options.teacher_temperature = 0.05;  // many probabilities are 0
            options.divergence = row.divergence;
            std::vector<float> gradient(9 * c);
            const DistillLoss loss = distill_loss(batch.input, options, gradient.data());
            CHECK(std::isnan(loss.loss) == row.loss_is_nan);
            for (std::size_t i = 0; i < gradient.size(); ++i) CHECK(std::isnan(gradient[i]) == (row.gradient_is_nan && i / c == 4));
        }
    }
}

CASE("a probability below the normal numbers is none") {
    for (const std::size_t c : std::initializer_list<std::size_t>{4, 60, 200}) {
        for (const std::size_t n : std::initializer_list<std::size_t>{1, 8, 9}) {
            std::vector<float> sure(n * c, -200.F), excluded(n * c, 0.F), gradient(n * c);
            for (std::size_t row = 0; row < n; ++row) {
                sure[row * c] = 0;
                sure[row * c + 1] = -95;
                excluded[row * c + 1] = -INFINITY;
            }
            for (const Divergence divergence : {Divergence::forward, Divergence::reverse}) {
                const bool forward = divergence == Divergence::forward;
                DistillInput<float> input;
                input.student = forward ? excluded.data() : sure.data();
                input.teacher = {forward ? sure.data() : excluded.data(), LogitType::f32, nullptr};
                input.rows = n;
                input.classes = c;
                DistillOptions options;
                options.ce_weight = 0;
                options.kl_weight = options.temperature = options.teacher_temperature = 1;
                options.divergence = divergence;
                CHECK(std::isfinite(distill_loss(input, options, gradient.data()).loss));
                for (const float g : gradient) CHECK(std::isfinite(g));
            }
        }
    }
}

CASE("row weights of any size") {
    const Batch batch(9, 10);
    std::vector<float> plain(90), small(90);
    DistillOptions options;
    distill_loss(batch.input, options, plain.data());
    for (const float size : {1e-45F, 1e-39F, 1e37F}) {
        DistillInput<float> input = batch.input;
        const std::vector<float> weights(9, size);
        input.row_weights = weights.data();
        distill_loss(input, options, small.data());
        for (std::size_t i = 0; i < 90; ++i) CHECK(std::fabs(plain[i] - small[i]) <= 1e-7F);
    }
}

// Classes that are alike have the same error, which a sum over them keeps: benchmarks/kernel_accuracy.py, family "apart".
CASE("one class apart from many that are alike, row by row") {
    for (const std::size_t c : std::initializer_list<std::size_t>{2, 3, 10, 48, 49, 100, 112, 160, 1000, 32000}) {
        for (const double temperature : {0.05, 0.3, 1.0, 3.0, 8.792, 87.0}) {
            const std::size_t rows = c < 1000 ? 16 : 4;
            Batch batch(rows, c);
            const std::vector<float> alike = check::normal(2 * rows, 4, 1.F), apart = check::normal(2 * rows, 5, 2.F);
            for (std::size_t n = 0; n < rows; ++n) {
                for (std::size_t i = 0; i < c; ++i) {
                    batch.student[n * c + i] = alike[2 * n];
                    batch.teacher[n * c + i] = alike[2 * n + 1];
                }
                const double step = std::log(static_cast<double>(c));
                batch.student[n * c] += static_cast<float>(temperature * (step + static_cast<double>(apart[2 * n])));
                batch.teacher[n * c] += static_cast<float>(temperature * (step + static_cast<double>(apart[2 * n + 1])));
            }
            for (const Divergence divergence : {Divergence::forward, Divergence::reverse}) {
                DistillOptions options;
                options.temperature = options.teacher_temperature = temperature;
                options.divergence = divergence;
                const bool forward = divergence == Divergence::forward;
                options.ce_weight = forward ? 1 : 0;
                options.kl_weight = forward ? temperature * temperature : 1;
                const double most = 5e-7 * std::fmax(1.0, forward ? temperature : 1 / temperature);
                for (std::size_t n = 0; n < rows; ++n) {
                    std::vector<float> one(rows, 0.F), gradient(rows * c);
                    one[n] = 1;
                    batch.input.row_weights = one.data();
                    const DistillLoss loss = distill_loss(batch.input, options, gradient.data());
                    const Expected expected = reference(batch.input, options, std::vector<double>(one.begin(), one.end()));
                    CHECK(check::close(loss.ce, expected.ce, 1e-7));
                    CHECK(check::close(loss.kl, expected.kl, 1e-6));
                    for (std::size_t i = n * c; i < (n + 1) * c; ++i) {
                        CHECK(std::fabs(static_cast<double>(gradient[i]) - expected.gradient[i]) <= most);
                    }
                }
            }
        }
    }
}

CASE("masks and weights") {
    for (const std::size_t c : std::initializer_list<std::size_t>{2, 10, 49}) {
        Batch batch(21, c);
        std::vector<std::uint8_t> mask(21);
        std::vector<float> row_weights(21);
        std::vector<double> weights(21);
        for (std::size_t n = 0; n < 21; ++n) {
            mask[n] = n % 4 != 1;
            row_weights[n] = 0.25F * static_cast<float>(n % 5);
            weights[n] = mask[n] ? static_cast<double>(row_weights[n]) : 0;
            if (mask[n] == 0) batch.labels[n] = -1;
        }
        batch.input.mask = mask.data();
        batch.input.row_weights = row_weights.data();
        DistillOptions options;
        options.kl_weight = 2;
        compare(batch.input, options, weights);
    }
}

CASE("teachers in other types give what their widened copies give") {
    for (const std::size_t c : std::initializer_list<std::size_t>{1, 3, 10, 48, 49, 130}) {
        for (const std::size_t n : std::initializer_list<std::size_t>{1, 5, 17}) {
            Batch batch(n, c);
            std::vector<std::uint16_t> half(n * c);
            std::vector<std::int8_t> bytes(n * c);
            std::vector<float> scale(n), wide(n * c), got(n * c), same(n * c);
            DistillOptions options;
            options.kl_weight = 1;
            to_f16(batch.teacher.data(), n * c, half.data());
            quantise_logits(batch.teacher.data(), n, c, bytes.data(), scale.data());
            for (const bool quantised : {false, true}) {
                batch.input.teacher = quantised ? Logits{bytes.data(), LogitType::i8, scale.data()}
                                                : Logits{half.data(), LogitType::f16, nullptr};
                distill_loss(batch.input, options, got.data());
                if (quantised) dequantise_logits(bytes.data(), scale.data(), n, c, wide.data());
                else from_f16(half.data(), n * c, wide.data());
                batch.input.teacher = {wide.data(), LogitType::f32, nullptr};
                distill_loss(batch.input, options, same.data());
                CHECK(got == same);
            }
        }
    }
}

CASE("the gradient may be written over the student") {
    for (const std::size_t c : std::initializer_list<std::size_t>{3, 10, 60, 2100}) {
        Batch batch(1200, c);  // 2100: beyond the caches
        std::vector<float> apart(batch.student.size());
        DistillOptions options;
        options.kl_weight = 1;
        distill_loss(batch.input, options, apart.data());
        distill_loss(batch.input, options, batch.student.data());
        CHECK(apart == batch.student);
    }
}

CASE("a NaN stays in its row") {
    for (const std::size_t c : std::initializer_list<std::size_t>{1, 4, 10, 49, 70}) {
        for (const std::size_t at : {std::size_t{0}, c / 2, c - 1}) {
            Batch batch(19, c);
            batch.student[7 * c + at] = NAN;
            batch.teacher[18 * c + at] = NAN;
            std::vector<float> gradient(19 * c);
            DistillOptions options;
            options.kl_weight = 1;
            CHECK(std::isnan(distill_loss(batch.input, options, gradient.data()).loss));
            for (std::size_t i = 0; i < gradient.size(); ++i) {
                CHECK(std::isnan(gradient[i]) == (i / c == 7 || i / c == 18));
            }
        }
    }
}

CASE("what is refused") {
    Batch batch(4, 3);
    std::vector<float> gradient(12, 5.F);
    DistillOptions options;
    batch.labels[2] = 3;
    CHECK_THROWS(distill_loss(batch.input, options, gradient.data()), "labels_N: got 3 at row 2, expected 0 to 2");
    CHECK(gradient == std::vector<float>(12, 5.F));
    batch.labels[2] = 0;
    options.temperature = 0;
    CHECK_THROWS(distill_loss(batch.input, options, gradient.data()), "temperature: got 0");
    options.temperature = 1;
    batch.input.teacher = {};
    options.kl_weight = 1;
    CHECK_THROWS(distill_loss(batch.input, options, gradient.data()), "teacher_NC: got none");
}

CASE("no rows") {
    DistillInput<float> input;
    const std::int64_t label = 0;
    input.labels = &label;
    input.classes = 10;
    CHECK(distill_loss(input, {}, nullptr).loss == 0);
}
