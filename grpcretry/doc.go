// Package grpcretry retries the calls of a gRPC client, through interceptors.
package grpcretry
