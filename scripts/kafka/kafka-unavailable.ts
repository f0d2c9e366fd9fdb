/** There is no broker to be had on this machine, and why: the message is one line for whoever asked. */
export class KafkaUnavailable extends Error {
  override readonly name = "KafkaUnavailable";
}
