"""What a learner does for tanh perceptrons, compiled: acting (`policy_step`), the gradient of a
minibatch (`policy_gradient`), and the groups of masks that every learner uses (`action_masks`).
"""
