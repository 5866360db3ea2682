package fedagg.bridge.agent;

import fedagg.bridge.wire.Digests;
import fedagg.bridge.wire.MsgpackWriter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;

/**
 * A way through a lesson: some epochs over its rows, each in another order, batch by batch. It can be left after any batch
 * and gone on with later: the same lesson and seed give the same batches.
 */
final class Round {
  private final Lesson lesson;
  private final Hyperparameters hyperparameters;
  private final Random random;
  private final byte[] fingerprint;
  private final List<long[]> rows;
  private int epoch = -1;
  private int at; // rows of the epoch that were passed
  private int batches; // that were passed
  private double[] sums = new double[4]; // of the losses, times rows
  private long seen; // rows

  Round(Lesson lesson, Hyperparameters hyperparameters, long seed) {
    this.lesson = lesson;
    this.hyperparameters = hyperparameters;
    rows = new ArrayList<>(lesson.rows());
    at = rows.size();
    random = new Random(seed);
    fingerprint = fingerprint(seed);
  }

  /** Of all that the order of the rows, their cut into batches and each step follow from, and of what the teacher says. */
  private byte[] fingerprint(long seed) {
    MsgpackWriter out = new MsgpackWriter();
    out.integer(seed).integer(hyperparameters.epochs).integer(hyperparameters.batchSize).bytes(lesson.digest());
    Hyperparameters h = hyperparameters;
    out.number(h.learningRate).number(h.momentum).number(h.weightDecay).number(h.temperature).number(h.beta)
        .number(h.gamma).bool(h.reverse).bool(h.temperatureOnTeacher);
    for (long[] row : rows) {
      out.integer(row[0]);
    }
    return Digests.of(out.toBytes());
  }

  byte[] fingerprint() {
    return fingerprint.clone();
  }

  int size() {
    return rows.size();
  }

  int batches() {
    return batches;
  }

  long seen() {
    return seen;
  }

  double[] sums() {
    return sums.clone();
  }

  boolean isOver() {
    return rows.isEmpty() || (epoch >= hyperparameters.epochs - 1 && at >= rows.size());
  }

  /** Passes over {@code batches} that were trained on before, with what came of them. */
  void goOn(int passed, long rowsSeen, double[] before) {
    while (batches < passed && !isOver()) {
      next();
    }
    seen = rowsSeen;
    sums = Arrays.copyOf(before, 4);
  }

  /** Trains on the next batch; on none, if its rows were all forgotten meanwhile. */
  void step(OnDeviceTrainer trainer) throws TrainerException {
    Batch batch = lesson.batch(next());
    if (batch == null) {
      return;
    }
    StepReport report = trainer.step(batch, hyperparameters);
    double[] terms = {report.loss, report.privateCrossEntropy, report.bridgeCrossEntropy, report.divergence};
    for (int i = 0; i < 4; i++) {
      sums[i] += batch.rows * terms[i];
    }
    seen += batch.rows;
  }

  private List<long[]> next() {
    if (at >= rows.size()) {
      epoch++;
      at = 0;
      Collections.shuffle(rows, random);
    }
    int left = rows.size() - at;
    int size = hyperparameters.batchSize;
    int count = left == size + 1 ? left : Math.min(left, size); // batch norm cannot train on one row
    List<long[]> chosen = rows.subList(at, at + count);
    at += count;
    batches++;
    return chosen;
  }

  /** The means over all rows so far. */
  StepReport means() {
    return seen == 0
        ? new StepReport(0, 0, 0, 0)
        : new StepReport(sums[0] / seen, sums[1] / seen, sums[2] / seen, sums[3] / seen);
  }
}
