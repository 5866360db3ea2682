package fedagg.bridge.agent;

import fedagg.bridge.state.Durable;
import fedagg.bridge.wire.MsgpackReader;
import fedagg.bridge.wire.MsgpackWriter;
import fedagg.bridge.wire.ProtocolException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/** A round that was left in its middle, on disk: how far it had come, and the weights of there. */
final class Paused {
  private static final String NAME = "round";
  private static final double MOST = Double.MAX_VALUE;

  private final byte[] fingerprint;
  private final int batches;
  private final long seen;
  private final double[] sums;
  final byte[] state;

  private Paused(byte[] fingerprint, int batches, long seen, double[] sums, byte[] state) {
    this.fingerprint = fingerprint;
    this.batches = batches;
    this.seen = seen;
    this.sums = sums;
    this.state = state;
  }

  static Paused of(Round round, byte[] state) {
    return new Paused(round.fingerprint(), round.batches(), round.seen(), round.sums(), state);
  }

  /** Whether it is this round's, of the same rows in the same order. */
  boolean isOf(Round round) {
    return Arrays.equals(fingerprint, round.fingerprint());
  }

  /** Brings a round that has just begun to where this one was left. */
  void lead(Round round) {
    round.goOn(batches, seen, sums);
  }

  void save(Path folder) throws IOException {
    MsgpackWriter out = new MsgpackWriter().array(8).bytes(fingerprint).integer(batches).integer(seen);
    for (double sum : sums) {
      out.number(sum);
    }
    Sealed.write(folder.resolve(NAME), out.bytes(state).toBytes());
  }

  /** Null if there is none that can be read. */
  static Paused load(Path folder) throws IOException {
    Durable.sweep(folder.resolve(NAME));
    byte[] body = Sealed.read(folder.resolve(NAME));
    if (body == null) {
      return null;
    }
    try {
      MsgpackReader in = new MsgpackReader(body);
      in.message("round", 8);
      byte[] fingerprint = in.bytes("fingerprint", 32, 32);
      int batches = (int) in.integer("batches", 0, Integer.MAX_VALUE);
      long seen = in.integer("seen", 0, Long.MAX_VALUE);
      double[] sums = new double[4];
      for (int i = 0; i < 4; i++) {
        sums[i] = in.number("sum", -MOST, MOST);
      }
      return new Paused(fingerprint, batches, seen, sums, in.bytes("state", 0, Integer.MAX_VALUE));
    } catch (ProtocolException error) {
      return null; // of another version of this library
    }
  }

  static void delete(Path folder) {
    try {
      Files.deleteIfExists(folder.resolve(NAME));
    } catch (IOException error) {
      // it is of a round that is over, which no other takes for its own
    }
  }
}
