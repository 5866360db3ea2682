package fedagg.bridge.identity;

import fedagg.bridge.state.Durable;
import fedagg.bridge.wire.Digests;
import fedagg.bridge.wire.Messages;
import java.io.IOException;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.Principal;
import java.security.PrivateKey;
import java.security.cert.X509Certificate;
import java.util.Arrays;
import java.util.List;
import javax.net.ssl.KeyManager;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509ExtendedKeyManager;

/**
 * Who this device is: the federation's root, its own certificate with its issuer's, and its key. The first two are files of
 * a folder, replaced whole; the key is kept by whoever keeps it. Renewal keeps the key.
 */
public final class Identity {
  private static final String AUTHORITY = "authority.pem";
  private static final String CERTIFICATE = "certificate.pem";
  private static final double PART = 2.0 / 3; // of its lifetime, after which a certificate is renewed
  private static final double SPREAD = 1.0 / 12;

  private final Path folder;
  private final NodeKey key;
  private final Trust trust;
  private final byte[] pem;
  private final X509Certificate[] chain;
  private final Facts facts;

  private Identity(Path folder, NodeKey key, Trust trust, byte[] pem, List<X509Certificate> chain, Facts facts) {
    this.folder = folder;
    this.key = key;
    this.trust = trust;
    this.pem = pem;
    this.chain = chain.toArray(new X509Certificate[0]);
    this.facts = facts;
  }

  /** Whether the folder has an identity. */
  public static boolean exists(Path folder) {
    return Files.exists(folder.resolve(CERTIFICATE));
  }

  /** The identity in {@code folder}, whose key is {@code key}. */
  public static Identity open(Path folder, NodeKey key) throws IdentityException {
    try {
      List<X509Certificate> roots = Pem.certificates(Files.readAllBytes(folder.resolve(AUTHORITY)));
      if (roots.size() != 1) {
        throw new IdentityException(folder + ": got " + roots.size() + " authorities, expected the federation's alone");
      }
      return of(folder, key, new Trust(roots.get(0)), Files.readAllBytes(folder.resolve(CERTIFICATE)));
    } catch (IOException error) {
      throw new IdentityException(folder + ": no identity: " + error.getMessage() + "; enrol first", error);
    }
  }

  private static Identity of(Path folder, NodeKey key, Trust trust, byte[] pem) throws IdentityException {
    List<X509Certificate> chain = Pem.certificates(pem);
    Facts facts = trust.check(chain, true);
    if (!Arrays.equals(chain.get(0).getPublicKey().getEncoded(), key.publicDer())) {
      throw new IdentityException("certificate: of another key than this device has; enrol again");
    }
    return new Identity(folder, key, trust, pem, chain, facts);
  }

  /** Puts what enrolment bought in place. The root comes first: a certificate in the folder says that all of it is there. */
  static Identity install(Path folder, NodeKey key, Trust trust, byte[] pem, String node) throws IdentityException {
    Identity made = of(folder, key, trust, pem);
    if (!made.facts.node.equals(node) || !made.facts.role.equals("device")) {
      throw new IdentityException(
          "certificate: got one for " + made.facts.role + " " + made.facts.node + ", expected device " + node);
    }
    try {
      Files.createDirectories(folder);
      Durable.replace(folder.resolve(AUTHORITY), Pem.of(trust.root()));
      Durable.replace(folder.resolve(CERTIFICATE), pem);
    } catch (IOException error) {
      throw new IdentityException(folder + ": cannot be written: " + error.getMessage(), error);
    }
    return made;
  }

  /** What to ask a parent for to get a new certificate for the same key; {@code time} is Unix time. */
  public Messages.Renew renewal(double time) throws IdentityException {
    byte[] binding = Digests.of(Pem.der(chain[0]));
    byte[] text = Proof.text("renew", facts.federation, facts.node, facts.role, time, binding, key.publicDer());
    return new Messages.Renew(pem, key.publicDer(), key.sign(text), time);
  }

  /** Replaces the certificate by one for the same key and node. */
  public Identity renewed(byte[] certificate) throws IdentityException {
    return install(folder, key, trust, certificate, facts.node);
  }

  /** When to renew, Unix time: after two thirds of the lifetime, later by up to a twelfth, drawn from the serial. */
  public double renewalDue() {
    return renewalDue(chain[0]);
  }

  static double renewalDue(X509Certificate leaf) {
    String serial = leaf.getSerialNumber().toString(16);
    long drawn = ByteBuffer.wrap(Digests.of(serial.getBytes(StandardCharsets.US_ASCII))).getLong() >>> 16;
    double from = leaf.getNotBefore().getTime() / 1000.0;
    double lifetime = leaf.getNotAfter().getTime() / 1000.0 - from;
    return from + lifetime * (PART + SPREAD * drawn / Math.pow(2, 48));
  }

  /** Whether a clock that shows {@code now} was evidently never set: the own certificate was made later. */
  public boolean clockIsUnset(double now) {
    return now < chain[0].getNotBefore().getTime() / 1000.0;
  }

  public Facts facts() {
    return facts;
  }

  /** TLS that trusts the federation's parents, and shows this device's certificate unless {@code anonymous}. */
  public SSLSocketFactory sockets(boolean anonymous) throws IdentityException {
    KeyManager[] own = anonymous ? new KeyManager[0] : new KeyManager[] {new OwnKey()};
    return sockets(own, trust);
  }

  static SSLSocketFactory sockets(KeyManager[] keys, TrustManager trust) throws IdentityException {
    try {
      SSLContext context = SSLContext.getInstance("TLS");
      context.init(keys, new TrustManager[] {trust}, null);
      return context.getSocketFactory();
    } catch (GeneralSecurityException error) {
      throw new IdentityException("TLS: not available: " + error.getMessage(), error);
    }
  }

  /** The one key there is, whichever a server says it would like. */
  private final class OwnKey extends X509ExtendedKeyManager {
    @Override
    public String chooseClientAlias(String[] types, Principal[] issuers, Socket socket) {
      return "device";
    }

    @Override
    public String chooseEngineClientAlias(String[] types, Principal[] issuers, SSLEngine engine) {
      return "device";
    }

    @Override
    public X509Certificate[] getCertificateChain(String alias) {
      return chain.clone();
    }

    @Override
    public PrivateKey getPrivateKey(String alias) {
      return key.privateKey();
    }

    @Override
    public String[] getClientAliases(String type, Principal[] issuers) {
      return new String[] {"device"};
    }

    @Override
    public String[] getServerAliases(String type, Principal[] issuers) {
      return null;
    }

    @Override
    public String chooseServerAlias(String type, Principal[] issuers, Socket socket) {
      return null;
    }
  }
}
