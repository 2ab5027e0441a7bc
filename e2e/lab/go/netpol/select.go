package main

import (
	"fmt"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// direction is what a rule speaks of, seen from the guarded pod.
type direction = networkingv1.PolicyType

// isolates tells whether the policy isolates the pod in the given direction.
func isolates(policy *networkingv1.NetworkPolicy, target endpoint, way direction) (bool, error) {
	if policy.Namespace != target.pod.Namespace || !slices.Contains(policyTypes(policy), way) {
		return false, nil
	}
	return matches(&policy.Spec.PodSelector, target.pod.Labels)
}

// policyTypes applies the API's default: always ingress, and egress if there are egress rules.
func policyTypes(policy *networkingv1.NetworkPolicy) []direction {
	if len(policy.Spec.PolicyTypes) > 0 {
		return policy.Spec.PolicyTypes
	}
	if len(policy.Spec.Egress) > 0 {
		return []direction{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	}
	return []direction{networkingv1.PolicyTypeIngress}
}

// peerPods lists the endpoints that a peer with selectors names.
// Without a namespace selector these are pods of the policy's own namespace.
func (s *State) peerPods(policyNamespace string, peer networkingv1.NetworkPolicyPeer, all []endpoint) ([]endpoint, error) {
	var found []endpoint
	for _, candidate := range all {
		if peer.NamespaceSelector == nil {
			if candidate.pod.Namespace != policyNamespace {
				continue
			}
		} else {
			namespace := s.Namespaces[candidate.pod.Namespace]
			if namespace == nil {
				continue
			}
			chosen, err := matches(peer.NamespaceSelector, namespace.Labels)
			if err != nil {
				return nil, err
			}
			if !chosen {
				continue
			}
		}
		if peer.PodSelector != nil {
			chosen, err := matches(peer.PodSelector, candidate.pod.Labels)
			if err != nil {
				return nil, err
			}
			if !chosen {
				continue
			}
		}
		found = append(found, candidate)
	}
	return found, nil
}

// matches evaluates a selector; an empty one matches everything.
func matches(selector *metav1.LabelSelector, set map[string]string) (bool, error) {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return false, fmt.Errorf("label selector %v: %w", selector, err)
	}
	return parsed.Matches(labels.Set(set)), nil
}
