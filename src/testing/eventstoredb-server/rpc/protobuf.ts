/**
 * The messages of the protocol, as the client package generates them, so that server and client cannot mean different ones.
 * They are CommonJS: what they put onto an object at run time is imported whole. google-protobuf keeps its types in globals, so that
 * its own messages are taken from where the client finds them.
 */
import { createRequire } from "node:module";
import gossipPb from "@eventstore/db-client/generated/gossip_pb.js";
import serverFeaturesPb from "@eventstore/db-client/generated/serverfeatures_pb.js";
import sharedPb from "@eventstore/db-client/generated/shared_pb.js";
import statusPb from "@eventstore/db-client/generated/status_pb.js";
import streamsPb from "@eventstore/db-client/generated/streams_pb.js";
import type anyPb from "google-protobuf/google/protobuf/any_pb.js";
import type emptyPb from "google-protobuf/google/protobuf/empty_pb.js";

export { gossipPb, serverFeaturesPb, sharedPb, statusPb, streamsPb };

const ofClient = createRequire(createRequire(import.meta.url).resolve("@eventstore/db-client/generated/status_pb.js"));

export const { Any } = ofClient("google-protobuf/google/protobuf/any_pb.js") as typeof anyPb;
/** google.protobuf.Empty; the protocol has an Empty of its own too. */
export const { Empty: GoogleEmpty } = ofClient("google-protobuf/google/protobuf/empty_pb.js") as typeof emptyPb;
