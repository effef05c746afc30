// Package clienttest tests package awsretry with the generated clients of many services. It is a module of its own,
// never published, so that users of awsretry do not require those clients.
package clienttest
