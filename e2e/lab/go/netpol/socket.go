package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"
)

// announceTimeout bounds how long the CNI plugin waits; the kubelet tries again after a failure.
const announceTimeout = 10 * time.Second

// announcement is what the CNI plugin tells about a new pod.
type announcement struct {
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	UID       string     `json:"uid"`
	Address   netip.Addr `json:"address"`
}

// serve answers on a Unix socket until ctx ends: `POST /pods` announces a pod's address,
// `GET /healthz` tells whether the rules are up to date.
func serve(ctx context.Context, enforcer *Enforcer, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the socket of an earlier run: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", path, err)
	}
	routes := http.NewServeMux()
	routes.HandleFunc("POST /pods", func(writer http.ResponseWriter, request *http.Request) {
		var pod announcement
		if err := json.NewDecoder(request.Body).Decode(&pod); err != nil {
			http.Error(writer, err.Error(), http.StatusBadRequest)
			return
		}
		waiting, cancel := context.WithTimeout(request.Context(), announceTimeout)
		defer cancel()
		if err := enforcer.Announce(waiting, pod.Namespace, pod.Name, pod.UID, pod.Address); err != nil {
			slog.Warn("announcement failed", "pod", pod.Namespace+"/"+pod.Name, "cause", err)
			http.Error(writer, err.Error(), http.StatusServiceUnavailable)
		}
	})
	routes.HandleFunc("GET /healthz", func(writer http.ResponseWriter, _ *http.Request) {
		if !enforcer.Current() {
			http.Error(writer, "rules are behind", http.StatusServiceUnavailable)
		}
	})
	server := &http.Server{Handler: routes, ReadHeaderTimeout: announceTimeout}
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %s: %w", path, err)
	}
	return nil
}
