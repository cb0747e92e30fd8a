package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Handlers of which the files are still to come; each leaves with its file.

func (s *Server) listOffsets(context.Context, *call) kmsg.Response             { return nil }
func (s *Server) metadata(context.Context, *call) kmsg.Response                { return nil }
func (s *Server) findCoordinator(context.Context, *call) kmsg.Response         { return nil }
func (s *Server) createTopics(context.Context, *call) kmsg.Response            { return nil }
func (s *Server) deleteTopics(context.Context, *call) kmsg.Response            { return nil }
func (s *Server) deleteRecords(context.Context, *call) kmsg.Response           { return nil }
func (s *Server) initProducerID(context.Context, *call) kmsg.Response          { return nil }
func (s *Server) offsetForLeaderEpoch(context.Context, *call) kmsg.Response    { return nil }
func (s *Server) describeConfigs(context.Context, *call) kmsg.Response         { return nil }
func (s *Server) alterConfigs(context.Context, *call) kmsg.Response            { return nil }
func (s *Server) describeLogDirs(context.Context, *call) kmsg.Response         { return nil }
func (s *Server) createPartitions(context.Context, *call) kmsg.Response        { return nil }
func (s *Server) incrementalAlterConfigs(context.Context, *call) kmsg.Response { return nil }
func (s *Server) describeCluster(context.Context, *call) kmsg.Response         { return nil }
func (s *Server) describeTopicPartitions(context.Context, *call) kmsg.Response { return nil }
