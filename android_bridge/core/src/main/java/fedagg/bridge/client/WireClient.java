package fedagg.bridge.client;

import fedagg.bridge.http.HttpsTransport;
import fedagg.bridge.identity.Enrolment;
import fedagg.bridge.identity.Identity;
import fedagg.bridge.identity.IdentityException;
import fedagg.bridge.state.DeviceState;
import fedagg.bridge.wire.ChildEnd;
import fedagg.bridge.wire.ChildState.StorageException;
import fedagg.bridge.wire.Event;
import fedagg.bridge.wire.Messages;
import fedagg.bridge.wire.ProtocolException;
import fedagg.bridge.wire.Request;
import fedagg.bridge.wire.Response;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;

/**
 * A device's talk with its parent over HTTPS: whatever {@link ChildEnd} says is to be sent next, one request a
 * {@link #turn}. Renews the certificate when that is due, and moves to another parent when it is told to, or when the
 * parent was silent for too long. One thread; {@link #interrupt} from any.
 */
public final class WireClient {
  private static final int CONNECT_MS = 10_000;
  private static final int MOST = 2 << 20; // bytes of an answer before a parent has said its limits
  private static final double FIRST_RENEWAL = 30; // seconds between renewals that fail, at first and at last
  private static final double LONGEST_RENEWAL = 3600;
  private static final double NEXT_PARENT = 5; // seconds before the next parent is asked when one has refused

  private final DeviceState state;
  private final ChildEnd end;
  private final String configured;
  private final List<String> fallbacks;
  private final double lostAfter;
  private final double wait;
  private final Random random;
  private final Link link; // null: the transport
  private Identity identity;
  private volatile HttpsTransport transport;
  private double lastContact = Double.NaN; // on the caller's clock
  private double renewAfter;
  private int renewalFailures;
  private boolean refusedAsExpired;
  private String trouble; // see trouble()
  private volatile boolean polling;
  private final List<Event> events = new ArrayList<>(); // that turn() has not told yet
  private int heeded; // of them

  /**
   * @param url the parent's address, https://host:port; {@code fallbacks}: other nodes of its tier, tried in order when
   *     the parent was silent for {@code lostAfter} seconds
   * @param labels how far up this node's labels may go: "all" or "first-edge"
   * @param wait seconds that a poll may be held
   */
  public WireClient(
      DeviceState state, Identity identity, String url, List<String> fallbacks, double lostAfter, String software,
      String labels, double wait, Random random) throws IdentityException {
    this(state, identity, url, fallbacks, lostAfter, software, labels, wait, random, null);
  }

  /** In place of a network. */
  interface Link {
    Response send(Request request) throws IOException;
  }

  /** For tests: what is sent goes to {@code link}. */
  WireClient(
      DeviceState state, Identity identity, String url, List<String> fallbacks, double lostAfter, String software,
      String labels, double wait, Random random, Link link) throws IdentityException {
    this.link = link;
    this.state = state;
    this.identity = identity;
    this.configured = url;
    this.fallbacks = new ArrayList<>(fallbacks);
    this.lostAfter = lostAfter;
    this.wait = wait;
    this.random = random;
    this.end =
        new ChildEnd(
            state, identity.facts().node, identity.facts().federation, software, labels, wait, random);
    connect();
  }

  private void connect() throws IdentityException {
    // the parent holds a poll for as long as it was asked to; what is left is for the way
    transport = new HttpsTransport(identity.sockets(false), CONNECT_MS, (int) (1000 * wait) + 50_000, MOST);
  }

  /** What this client talks through: its step, its parent, whether it is ready to exchange. */
  public ChildEnd end() {
    return end;
  }

  /** The address that is talked to. */
  public String url() {
    String moving = state.moving() > 0 ? state.text("moving.url") : null;
    String home = state.text("home");
    return moving != null ? moving : home != null ? home : configured;
  }

  /** Ends the request under way, if there is one; it is sent again. */
  public void interrupt() {
    transport.interrupt();
  }

  /** Ends a poll for news, so that something else can be sent; leaves any other request alone. */
  public void interruptPoll() {
    if (polling) {
      transport.interrupt();
    }
  }

  /**
   * Sends one request, if one is due, and gives what came of it.
   *
   * @param now seconds that never jump
   * @throws StorageException if an answer, or what follows from one, could not be kept; it is asked for, or tried, again
   */
  public List<Event> turn(double now) throws StorageException {
    if (events.isEmpty()) {
      events.addAll(talk(now));
    }
    for (; heeded < events.size(); heeded++) { // a full disk ends it: the parent tells none of them twice
      heed(events.get(heeded), now);
    }
    List<Event> told = new ArrayList<>(events);
    events.clear();
    heeded = 0;
    return told;
  }

  /** Why the last request had no answer, in the transport's words; null if it had one. */
  public String trouble() {
    return trouble;
  }

  private List<Event> talk(double now) throws StorageException {
    if (Double.isNaN(lastContact)) {
      lastContact = now;
    }
    renewIfDue(now);
    Request request = end.next(now);
    if (request == null) {
      return Collections.emptyList();
    }
    Response response;
    try {
      polling = request.path.equals("/v1/exchange");
      response =
          link != null ? link.send(request) : transport.send(url(), request, (int) Math.max(MOST, end.longestAnswer()));
    } catch (HttpsTransport.EndedException error) {
      end.ended(request); // by this device, which has something else to send: no word about the parent
      return Collections.emptyList();
    } catch (IOException error) {
      end.failed(request, now);
      trouble = String.valueOf(error.getMessage());
      refusedAsExpired |= String.valueOf(error.getMessage()).contains("certificate_expired");
      if (now - lastContact > lostAfter && otherThan(url()) != null) {
        lastContact = now;
        go(otherThan(url()), 0);
      }
      return Collections.emptyList();
    } finally {
      polling = false;
    }
    lastContact = now;
    trouble = null;
    return end.receive(request, response, now);
  }

  private void heed(Event event, double now) throws StorageException {
    switch (event.kind) {
      case WELCOMED:
        if (!url().equals(state.text("home"))) {
          state.putText("home", url());
        }
        break;
      case NOTICE:
        if (event.notice.number > state.noticed()) {
          note(event.notice);
        }
        break;
      case REFUSED:
        boolean gone = event.problem.code.equals("moved") && state.text("home") != null;
        String next = state.moving() > 0 ? otherThan(url()) : gone ? state.text("home") : null;
        if (event.number > 0 && next != null) {
          go(next, now + NEXT_PARENT);
        }
        break;
      default:
    }
  }

  /** In one step: a move that was noted and not begun would not be told again. */
  private void note(Messages.Notice notice) throws StorageException {
    state.begin();
    try {
      state.putNumber("noticed", notice.number);
      if (notice.kind.equals("move")) {
        told(notice.body);
      }
    } finally {
      state.commit();
    }
  }

  /** The parent says where to go, or, with no address, that it is about to stop. */
  private void told(byte[] body) throws StorageException {
    List<String> urls;
    try {
      urls = Messages.MoveTo.decode(body).urls;
    } catch (ProtocolException error) {
      return; // nobody's order
    }
    for (String url : urls.isEmpty() ? fallbacks : urls) {
      if (url.startsWith("https://") && !url.equals(url())) {
        go(url, 0);
        return;
      }
    }
  }

  /** Go to the parent at {@code url}: a move that survives restarts, until it is over or given up. */
  public void move(String url) throws StorageException {
    go(url, 0);
  }

  private void go(String url, double wake) throws StorageException {
    if (state.moving() > 0 && url.equals(state.text("home"))) {
      state.putNumber("moving", 0); // back to the parent that it has; one that has let it go says so
    } else {
      state.beginMove(url);
    }
    end.restart(wake);
  }

  /** The address to try after {@code url}, of all that are known; null if there is no other. */
  private String otherThan(String url) {
    Set<String> known = new LinkedHashSet<>();
    if (state.text("home") != null) {
      known.add(state.text("home"));
    }
    known.add(configured);
    known.addAll(fallbacks);
    List<String> order = new ArrayList<>(known);
    int at = order.indexOf(url);
    String next = order.get((at + 1) % order.size());
    return next.equals(url) ? null : next;
  }

  private void renewIfDue(double now) {
    double clock = System.currentTimeMillis() / 1000.0;
    boolean due = refusedAsExpired || (clock >= identity.renewalDue() && !identity.clockIsUnset(clock));
    if (!due || now < renewAfter) {
      return;
    }
    try {
      identity = Enrolment.renew(url(), identity);
      connect();
      end.greet();
      refusedAsExpired = false;
      renewalFailures = 0;
      renewAfter = now + NEXT_PARENT;
    } catch (IOException | IdentityException error) {
      double longest = Math.min(LONGEST_RENEWAL, FIRST_RENEWAL * Math.pow(2, renewalFailures));
      renewAfter = now + longest * (0.5 + 0.5 * random.nextDouble());
      renewalFailures = Math.min(renewalFailures + 1, 16);
    }
  }
}
