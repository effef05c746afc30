package main

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/grpcretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// serviceConfig switches gRPC's own retries on, with as many attempts as it allows.
const serviceConfig = `{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.001s",
	"maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// A grpcServer serves unary calls over loopback, and has the connections of the clients.
type grpcServer struct {
	healthpb.UnimplementedHealthServer

	server  *grpc.Server
	served  chan struct{}
	address string

	mu    sync.Mutex
	conns []*grpc.ClientConn
}

func newGRPCServer(ctx context.Context) (*grpcServer, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &grpcServer{server: grpc.NewServer(), served: make(chan struct{}), address: listener.Addr().String()}
	healthpb.RegisterHealthServer(s.server, s)
	go func() { defer close(s.served); _ = s.server.Serve(listener) }()
	return s, nil
}

func (*grpcServer) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

func (s *grpcServer) close() {
	s.hangUp()
	s.server.Stop()
	<-s.served
}

// hangUp closes the connections of all clients.
func (s *grpcServer) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.conns = nil
}

// check returns a cell whose client has the options.
func (s *grpcServer) check(options func() []grpc.DialOption) cell {
	return func(call) call {
		conn, err := grpc.NewClient(s.address, append(options(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
		if err != nil {
			return func(context.Context) error { return err }
		}
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		s.mu.Unlock()
		client, request := healthpb.NewHealthClient(conn), &healthpb.HealthCheckRequest{}
		return func(ctx context.Context) error {
			_, err := client.Check(ctx, request)
			return err
		}
	}
}

// grpcScenarios returns the rows in which the operation is a unary call over loopback.
func grpcScenarios(s *grpcServer) []scenario {
	bare := s.check(func() []grpc.DialOption { return []grpc.DialOption{grpc.WithDisableRetry()} })
	service := circuit.Service()
	ours := func(breakers *circuit.Config) cell {
		return s.check(func() []grpc.DialOption {
			return grpcretry.DialOptions(grpcretry.Options{Policy: grpcPolicy(), Breakers: breakers})
		})
	}
	return []scenario{
		{name: "gRPC unary, retry", hangUp: s.hangUp, cells: map[library]cell{
			bareCall: bare, perdure: ours(nil), bareAgain: bare,
			ownGRPC: s.check(func() []grpc.DialOption { return []grpc.DialOption{grpc.WithDefaultServiceConfig(serviceConfig)} }),
		}},
		{name: "gRPC unary, retry + gate + budget", hangUp: s.hangUp, cells: map[library]cell{
			bareCall: bare, perdure: ours(&service),
		}},
	}
}

func grpcPolicy() *retry.Policy {
	p := perdurePolicy(nil)
	p.Classify = nil // by code
	return p
}
