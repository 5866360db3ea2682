package fedagg.bridge.wire;

import java.util.List;

/**
 * A child's durable state, as its end of the link sees it. What a method says is kept when it returns; methods between
 * {@link #begin} and {@link #commit} are kept together or not at all.
 */
public interface ChildState {
  /** What is kept could not be written; nothing of the transaction is. */
  final class StorageException extends Exception {
    private static final long serialVersionUID = 1L;

    public StorageException(String message, Throwable cause) {
      super(message, cause);
    }
  }

  void begin();

  void commit() throws StorageException;

  /** Forget what was said since {@link #begin}. */
  void rollback();

  /** Number of the newest entry of the log that is here, 0 for none. */
  long head();

  /** The digest of the set behind {@link #head}. */
  byte[] headDigest();

  /**
   * Whether all is here that the parent had of this node when the two first met. Until then nothing of its own is sent: it
   * may have lost a state in which it gave the same keys.
   */
  boolean joined();

  /** It is here: what waits can be sent, under keys that no entry has. Again changes nothing. */
  void join();

  /** Key of the oldest own batch that the parent has not committed, or -1. */
  long pendingKey();

  /** Keys of all own batches that the parent has not committed, oldest first. */
  long[] pendingKeys();

  /**
   * Cuts the batches over so many rows or bytes, down to one row each. They and those behind them get new keys, as the
   * order is that of the keys and none is used twice. One that the parent has committed all the same comes back as an entry
   * of the log; then its parts are rows that the log has, which changes nothing.
   */
  void split(long mostRows, long mostBytes) throws StorageException;

  /** APPEND or FORGET; 0 if there is no such batch. */
  int batchKind(long key);

  /** A batch as it is at one moment, for rows may be erased from it at any; null if there is none. */
  WaitingBatch batch(long key);

  /** The parent has committed the pending batch {@code key} as {@code entry}, the next one; again changes nothing. */
  void acknowledge(long key, long entry, byte[] digest) throws ProtocolException;

  /** Take over an entry that the parent wrote, or that this node did before it lost its state: its numbers are not given again. */
  void follow(TakenEntry entry) throws ProtocolException;

  /** This node's moves so far. */
  long fence();

  /** The number of the move that is under way, 0 for none. */
  long moving();

  void setFence(long fence);

  /** A payload of this digest that is here already, or null. */
  byte[] find(byte[] digest);

  /** The new parent's whole log takes the place of the old one's, which ends the move; this node has joined then. */
  void rebase(List<TakenEntry> log, long fence) throws ProtocolException;

  /** The newest knowledge of {@code parent} about this link, or null. */
  Knowledge heard(String parent);

  /** The newest own knowledge for {@code parent}, or null. */
  Knowledge told(String parent);

  void hear(String parent, Knowledge knowledge);

  /** Number of the newest notice that was heeded. */
  long noticed();

  /** An own batch that the parent has not committed. */
  final class WaitingBatch {
    public final int kind;
    public final int rows;
    public final byte[] bytes;

    public WaitingBatch(int kind, int rows, byte[] bytes) {
      this.kind = kind;
      this.rows = rows;
      this.bytes = bytes;
    }
  }

  /** An entry of the parent's log, whole. */
  final class TakenEntry {
    public final long number;
    public final int kind;
    public final long rows;
    public final byte[] digest;
    public final byte[] payload;
    public final long key; // of the own batch that it was, in a state that was lost; -1: the parent wrote it

    public TakenEntry(long number, int kind, long rows, byte[] digest, byte[] payload) {
      this(number, kind, rows, digest, payload, -1);
    }

    public TakenEntry(long number, int kind, long rows, byte[] digest, byte[] payload, long key) {
      this.number = number;
      this.kind = kind;
      this.rows = rows;
      this.digest = digest;
      this.payload = payload;
      this.key = key;
    }
  }
}
