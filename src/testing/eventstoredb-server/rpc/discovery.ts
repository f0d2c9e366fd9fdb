/** ServerFeatures.GetSupportedMethods and Gossip.Read: what a client asks before it does anything. */
import type { handleUnaryCall } from "@grpc/grpc-js";
import type { ClusterInfo } from "@eventstore/db-client/generated/gossip_pb.js";
import type { SupportedMethods } from "@eventstore/db-client/generated/serverfeatures_pb.js";
import type { Empty } from "@eventstore/db-client/generated/shared_pb.js";
import type { ServerSide } from "./calls.ts";
import { gossipPb, serverFeaturesPb } from "./protobuf.ts";
import { unary } from "./unary.ts";
import { uuidOf } from "./values.ts";

/** Names in lower case, as the server sends them. `deadline_duration` of BatchAppend is left out: the messages of this client do not have it. */
export function supportedMethods(server: ServerSide): handleUnaryCall<Empty, SupportedMethods> {
  return unary(server, {
    target: "server-features",
    streamOf: () => undefined,
    handle() {
      const response = new serverFeaturesPb.SupportedMethods();
      response.setEventStoreServerVersion(server.version);
      const add = (service: string, method: string, ...features: string[]): void => {
        const supported = new serverFeaturesPb.SupportedMethod();
        supported.setServiceName(service);
        supported.setMethodName(method);
        supported.setFeaturesList(features);
        response.addMethods(supported);
      };
      const streams = "event_store.client.streams.streams";
      add(streams, "read", "position", "events");
      add(streams, "append");
      add(streams, "delete");
      add(streams, "tombstone");
      if (server.batchAppend) add(streams, "batchappend");
      add("event_store.client.gossip.gossip", "read");
      add("event_store.client.server_features.serverfeatures", "getsupportedmethods");
      return response;
    },
  });
}

/** A cluster of one: this server, its leader. */
export function readGossip(server: ServerSide): handleUnaryCall<Empty, ClusterInfo> {
  const instance = server.environment.random.uuid();
  return unary(server, {
    target: "gossip",
    streamOf: () => undefined,
    handle() {
      const { host, port } = server.advertised();
      const endPoint = new gossipPb.EndPoint();
      endPoint.setAddress(host);
      endPoint.setPort(port);
      const member = new gossipPb.MemberInfo();
      member.setInstanceId(uuidOf(instance, true));
      member.setTimeStamp(String(server.environment.clock.now() * 10_000));
      member.setState(gossipPb.MemberInfo.VNodeState.LEADER);
      member.setIsAlive(true);
      member.setHttpEndPoint(endPoint);
      const info = new gossipPb.ClusterInfo();
      info.addMembers(member);
      return info;
    },
  });
}
