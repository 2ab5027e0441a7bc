package main

import (
	"net/netip"
	"sort"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// State is everything that decides a rule set. Rendering reads nothing else.
type State struct {
	// Node is the node whose pods are guarded. Pods of other nodes matter only as peers.
	Node       string
	Namespaces map[string]*corev1.Namespace
	Pods       []*corev1.Pod
	Policies   []*networkingv1.NetworkPolicy
	// Addresses holds, by pod UID, what the CNI plugin announced. It is newer than the pod's
	// status, which the kubelet writes only after the containers were started.
	Addresses map[string]netip.Addr
}

// endpoint is a pod on the pod network that has an address.
type endpoint struct {
	pod     *corev1.Pod
	address netip.Addr
}

// endpoints lists the pods that have an address of their own, in a stable order.
// Pods on the host's network are left out: policies neither select them nor name them as peers.
func (s *State) endpoints() []endpoint {
	var found []endpoint
	for _, pod := range s.Pods {
		// The address of a finished pod may belong to another one by now.
		finished := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if pod.Spec.HostNetwork || finished {
			continue
		}
		address, announced := s.Addresses[string(pod.UID)]
		if !announced {
			parsed, err := netip.ParseAddr(pod.Status.PodIP)
			if err != nil {
				continue
			}
			address = parsed
		}
		if address.Is4() {
			found = append(found, endpoint{pod: pod, address: address})
		}
	}
	sort.Slice(found, func(a, b int) bool { return found[a].address.Less(found[b].address) })
	return found
}

// namedPort finds the number of a named container port of the given protocol.
func (e endpoint) namedPort(name string, protocol corev1.Protocol) (int32, bool) {
	containers := e.pod.Spec.Containers
	for _, initial := range e.pod.Spec.InitContainers {
		// An init container that is always restarted is a sidecar and may serve ports.
		if initial.RestartPolicy != nil && *initial.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers[:len(containers):len(containers)], initial)
		}
	}
	for _, container := range containers {
		for _, port := range container.Ports {
			if port.Name == name && protocolOf(&port.Protocol) == protocol {
				return port.ContainerPort, true
			}
		}
	}
	return 0, false
}

// protocolOf applies the API's default.
func protocolOf(protocol *corev1.Protocol) corev1.Protocol {
	if protocol == nil || *protocol == "" {
		return corev1.ProtocolTCP
	}
	return *protocol
}
