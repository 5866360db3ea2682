package fedagg.bridge.state;

import fedagg.bridge.wire.Messages;
import fedagg.bridge.wire.ProtocolException;
import fedagg.bridge.wire.Rows;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Batches as short as a parent takes them. */
final class Cut {
  private Cut() {}

  /** Whether a batch is over what one may have, and could be shorter. */
  static boolean isOver(Memory.Batch batch, long mostRows, long mostBytes) {
    return batch.counters.length > mostRows || (batch.bytes.length > mostBytes && batch.counters.length > 1);
  }

  /**
   * The batch in parts of at most {@code mostRows} rows and {@code mostBytes} bytes, or of one row. Rows that were erased
   * from it are no part's: should it have been committed with them, it comes back as an entry of the log.
   */
  static List<Memory.Batch> of(Memory.Batch batch, String node, long mostRows, long mostBytes)
      throws ProtocolException {
    if (!isOver(batch, mostRows, mostBytes)) {
      return new ArrayList<>(Arrays.asList(batch));
    }
    Rows rows =
        batch.kind == Messages.FORGET
            ? Rows.samples(batch.counters)
            : Rows.loadEmbeddings(batch.bytes, node, Integer.MAX_VALUE);
    int step = (int) Math.min(mostRows, batch.counters.length);
    List<Memory.Batch> parts = parts(batch.kind, rows, node, step);
    while (step > 1 && longest(parts) > mostBytes) {
      step /= 2;
      parts = parts(batch.kind, rows, node, step);
    }
    return parts;
  }

  private static List<Memory.Batch> parts(int kind, Rows rows, String node, int step) {
    List<Memory.Batch> parts = new ArrayList<>();
    for (int from = 0; from < rows.counters.length; from += step) {
      Rows part = rows.part(from, Math.min(rows.counters.length, from + step));
      parts.add(new Memory.Batch(kind, part.counters, part.dump(node)));
    }
    return parts;
  }

  private static int longest(List<Memory.Batch> parts) {
    int longest = 0;
    for (Memory.Batch part : parts) {
      longest = Math.max(longest, part.bytes.length);
    }
    return longest;
  }
}
