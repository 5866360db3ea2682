// What TSan watches: several threads in one call, several calls at once, and a child after fork.
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "check.h"
#include "fedagg/aggregate.h"
#include "fedagg/distill.h"

using namespace fedagg;

namespace {

struct Job {
    Job(std::size_t n, std::size_t c) : student(check::normal(n * c, 1)), teacher(check::normal(n * c, 2)), labels(check::labels(n, c, 3)), gradient(n * c) {
        input.student = student.data();
        input.teacher = {teacher.data(), LogitType::f32, nullptr};
        input.labels = labels.data();
        input.rows = n;
        input.classes = c;
    }
    double run(unsigned threads) {
        DistillOptions options;
        options.kl_weight = 1;
        options.threads = threads;
        return distill_loss(input, options, gradient.data()).loss;
    }
    std::vector<float> student, teacher;
    std::vector<std::int64_t> labels;
    std::vector<float> gradient;
    DistillInput<float> input;
};

}  // namespace

CASE("threads change no gradient") {
    for (const std::size_t c : std::initializer_list<std::size_t>{10, 100, 40000}) {
        Job job(400000 / c + 7, c);
        const double alone = job.run(1);
        const std::vector<float> gradient = job.gradient;
        for (const unsigned threads : {2U, 3U, 7U}) {
            job.gradient.assign(job.gradient.size(), 0.F);
            CHECK(check::close(job.run(threads), alone, 1e-12));
            CHECK(job.gradient == gradient);
        }
    }
}

CASE("an aggregate does not depend on threads either") {
    const std::size_t n = 9001, c = 20;
    const auto a = check::normal(n * c, 1), b = check::normal(n * c, 2);
    const Logits teachers[] = {{a.data(), LogitType::f32, nullptr}, {b.data(), LogitType::f32, nullptr}};
    for (const auto method : {Aggregation::mean_logits, Aggregation::mean_probabilities, Aggregation::entropy_weighted, Aggregation::median}) {
        std::vector<float> alone(n * c), together(n * c);
        aggregate_logits({teachers, 2, n, c, nullptr, nullptr, nullptr}, method, 0, 1, alone.data());
        aggregate_logits({teachers, 2, n, c, nullptr, nullptr, nullptr}, method, 0, 3, together.data());
        CHECK(alone == together);
    }
}

CASE("an error in one thread reaches the caller, and the pool survives") {
    Job job(100000, 10);
    std::vector<std::uint8_t> mask(2 * 100000, 1);
    mask[70000] = mask[170000] = 0;
    const Logits teachers[] = {{job.student.data(), LogitType::f32, nullptr}, {job.teacher.data(), LogitType::f32, nullptr}};
    const AggregateInput input{teachers, 2, 100000, 10, nullptr, nullptr, mask.data()};
    CHECK_THROWS(aggregate_logits(input, Aggregation::mean_logits, 0, 2, job.gradient.data()), "sum of 0 at sample 70000");
    CHECK(job.run(2) > 0);
}

CASE("calls from many threads at once") {
    std::vector<std::thread> callers;
    std::vector<double> results(6);
    for (std::size_t i = 0; i < results.size(); ++i) {
        callers.emplace_back([&results, i] {
            Job job(20000, 10);
            for (int repeat = 0; repeat < 5; ++repeat) results[i] = job.run(2);
        });
    }
    for (std::thread& caller : callers) caller.join();
    for (const double result : results) CHECK(check::close(result, results[0], 1e-12));
}

// neither TSan nor qemu-user follows a fork of a process with threads
#if !defined(__SANITIZE_THREAD__) && !defined(FEDAGG_TESTS_EMULATED)
CASE("a child after fork has threads of its own") {
    Job job(40000, 10);
    const double here = job.run(2);
    const pid_t child = fork();
    if (child == 0) _exit(check::close(job.run(2), here, 1e-12) ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
    CHECK(check::close(job.run(2), here, 1e-12));
}
#endif
