import fedagg.bridge.agent.AgentConfig
import fedagg.bridge.agent.AgentListener
import fedagg.bridge.agent.Bridge
import fedagg.bridge.agent.DeviceAgent
import fedagg.bridge.agent.OnDeviceTrainer
import fedagg.bridge.agent.StepReport
import fedagg.bridge.identity.Enrolment
import fedagg.bridge.identity.Identity
import fedagg.bridge.identity.NodeKey
import fedagg.bridge.identity.Token
import fedagg.bridge.kernels.DistillationCore
import java.nio.file.Path

/** A device as an application in Kotlin makes it. */
class Phone(private val folder: Path, private val bridge: Bridge, private val trainer: OnDeviceTrainer) : AgentListener {
    val rounds = mutableListOf<Long>()

    fun work(url: String, token: String, key: NodeKey, samples: List<FloatArray>, labels: IntArray): Boolean {
        val me: Identity =
            if (Identity.exists(folder)) Identity.open(folder, key)
            else Enrolment.enrol(url, Token.parse(token), "phone-17", folder, key)
        return DistillationCore.open().use { core ->
            DeviceAgent(folder.resolve("state"), AgentConfig(url).seed(3), me, bridge, trainer, core, this).use { agent ->
                val first: Long? = if (agent.samples() == 0) agent.add(samples, labels) else null
                agent.run(480.0)
                first?.let { agent.forget(it, it + 1) }
                agent.predict(samples[0]) == labels[0]
            }
        }
    }

    override fun round(version: Long, rows: Int, means: StepReport) {
        rounds += version
    }

    override fun setAside(rows: Int) = println("$rows rows wait")
}
