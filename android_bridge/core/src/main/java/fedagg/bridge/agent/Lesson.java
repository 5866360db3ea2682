package fedagg.bridge.agent;

import fedagg.bridge.kernels.Buffers;
import fedagg.bridge.kernels.DistillationCore;
import fedagg.bridge.state.DeviceState;
import fedagg.bridge.wire.Digests;
import fedagg.bridge.wire.Knowledge;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** What a device learns from its parent's knowledge: the rows that it still has in private, with the teacher's logits. */
final class Lesson {
  private final DeviceState state;
  private final Bridge bridge;
  private final int classes;
  private final List<long[]> rows = new ArrayList<>(); // counter, and its row in the knowledge
  private final ByteBuffer teacher; // binary32 [all rows of the knowledge, classes]

  private Lesson(DeviceState state, Bridge bridge, int classes, ByteBuffer teacher) {
    this.state = state;
    this.bridge = bridge;
    this.classes = classes;
    this.teacher = teacher;
  }

  /** Throws TrainerException for knowledge that this node cannot use. */
  static Lesson of(Knowledge heard, DeviceState state, Bridge bridge, DistillationCore core, int classes)
      throws TrainerException {
    if (heard.viewSeed != 0) {
      throw new TrainerException(
          "knowledge " + heard.version + ": got logits on view " + heard.viewSeed
              + " of the bridge samples, this device sees them plainly; set bridge_views to plain");
    }
    long[] named = state.named(heard.digest);
    if (named == null || named.length != heard.rows || heard.classes != classes) {
      throw new TrainerException(
          "knowledge " + heard.version + ": got " + heard.rows + " rows of " + heard.classes
              + " classes on a set, expected " + (named == null ? "one of this link" : named.length + " of " + classes));
    }
    Lesson lesson = new Lesson(state, bridge, classes, unpacked(heard, core));
    for (int i = 0; i < named.length; i++) {
      if (state.sample(named[i]) != null) {
        lesson.rows.add(new long[] {named[i], i});
      }
    }
    return lesson;
  }

  private static ByteBuffer unpacked(Knowledge heard, DistillationCore core) {
    int cells = heard.rows * heard.classes;
    ByteBuffer data = Buffers.of(heard.data);
    if (heard.format.equals("f32")) {
      return data;
    }
    ByteBuffer out = Buffers.floats(cells);
    if (heard.format.equals("f16")) {
      core.fromF16(cells, data, out);
    } else {
      ByteBuffer scale = data.duplicate().order(data.order());
      data.position(4 * heard.rows);
      core.dequantise(heard.rows, heard.classes, data, scale, out);
    }
    return out;
  }

  int size() {
    return rows.size();
  }

  /** Counter, and its row in the knowledge. */
  List<long[]> rows() {
    return Collections.unmodifiableList(rows);
  }

  /** Of what the teacher says. */
  byte[] digest() {
    return Digests.of(Buffers.toBytes(teacher.duplicate().order(teacher.order()), teacher.capacity()));
  }

  /** Of those rows that are still here, as the application may forget some meanwhile; null if none is. */
  Batch batch(List<long[]> chosen) {
    List<long[]> kept = new ArrayList<>();
    List<float[]> samples = new ArrayList<>();
    List<byte[]> embeddings = new ArrayList<>();
    List<Integer> targets = new ArrayList<>();
    for (long[] each : chosen) {
      float[] sample = state.sample(each[0]);
      byte[] code = state.code(each[0]);
      int label = state.label(each[0]);
      if (sample != null && code != null && label >= 0) {
        kept.add(each);
        samples.add(sample);
        embeddings.add(code);
        targets.add(label);
      }
    }
    int count = kept.size();
    if (count == 0) {
      return null;
    }
    int floats = bridge.sampleFloats();
    int codeBytes = bridge.embeddingBytes();
    ByteBuffer own = Buffers.floats(count * floats);
    ByteBuffer decoded = Buffers.floats(count * floats);
    ByteBuffer codes = Buffers.bytes(count * codeBytes);
    ByteBuffer labels = Buffers.longs(count);
    ByteBuffer logits = Buffers.floats(count * classes);
    for (int i = 0; i < count; i++) {
      int row = (int) kept.get(i)[1];
      own.position(4 * i * floats);
      own.asFloatBuffer().put(samples.get(i));
      codes.position(i * codeBytes);
      codes.put(embeddings.get(i));
      labels.putLong(8 * i, targets.get(i));
      for (int c = 0; c < classes; c++) {
        logits.putFloat(4 * (i * classes + c), teacher.getFloat(4 * (row * classes + c)));
      }
    }
    own.clear();
    codes.clear();
    bridge.decode(codes, count, decoded);
    return new Batch(count, own, decoded, labels, logits);
  }
}
